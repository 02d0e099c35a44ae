package session

import (
	"testing"
	"testing/synctest"
	"time"
)

// A server that was too busy for the one question is asked again, and one that has
// answered is not. Nobody waits for a question that somebody else asks.
func TestFindingIsAskedAgainUntilSomethingIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f finding[string]
		asked := 0
		says := func(said string, ok bool) func() (string, bool) {
			return func() (string, bool) {
				asked++
				if got := f.get(func() (string, bool) { panic("asked twice") }); got != "" {
					t.Errorf("%q is known before it was found", got)
				}
				return said, ok
			}
		}
		for _, step := range []struct {
			after time.Duration
			says  string
			ok    bool
			want  string
			asked int
		}{
			{0, "", false, "", 1},
			{probePause - 1, "a", true, "", 1},
			{1, "", false, "", 2},
			{probePause, "b", true, "b", 3},
			{time.Hour, "c", true, "b", 3},
		} {
			time.Sleep(step.after)
			if got := f.get(says(step.says, step.ok)); got != step.want || asked != step.asked {
				t.Errorf("%q after %d questions, want %q after %d", got, asked, step.want, step.asked)
			}
		}
	})
}
