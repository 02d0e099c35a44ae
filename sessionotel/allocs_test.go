//go:build !race

// The race detector makes compilers keep on the heap what would be on the stack.

package sessionotel_test

import "testing"

// The package documentation says what a call costs in allocations.
func TestAllocationsAreThoseOfThePackageDocumentation(t *testing.T) {
	for _, c := range costings(t) {
		got := testing.AllocsPerRun(200, func() {
			if _, err := c.store.Load(c.ctx, theID); err != nil {
				t.Fatal(err)
			}
		})
		if got != c.allocs {
			t.Errorf("%s: %v allocations, the documentation says %v; find what was added, or write the new number", c.name, got, c.allocs)
		}
	}
}
