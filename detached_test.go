package session

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

// A session of sessiontest.Context begins when it is made, not with the process: in
// one that ran for an hour its Login would count as revoked meanwhile (L1).
func TestDetachedSessionsBeginWhenTheyAreMade(t *testing.T) {
	before := sinceStart()
	require.NotZero(t, before)
	prepared := newDetached(context.Background(), func(ctx context.Context) {
		require.GreaterOrEqual(t, FromContext(ctx).x.began, before)
		require.NoError(t, FromContext(ctx).Login("alice"))
	})
	require.GreaterOrEqual(t, FromContext(prepared).x.began, before)
}
