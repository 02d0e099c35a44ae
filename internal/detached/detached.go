// Package detached lets sessiontest make sessions without a request, which the
// public API of package session cannot.
package detached

import "context"

// New returns a context with a session that no middleware loaded and no request
// will save. prepare, which may be nil, is given a context whose session becomes
// what the returned one finds stored. Package session sets New when it is
// initialized.
var New func(ctx context.Context, prepare func(context.Context)) context.Context
