package redistest

import (
	"fmt"
	"log"
	"testing"
)

// A Program stands in for the test that [Start] and [StartProxy] expect, because
// the servers that they start are right for a program that measures, too. What
// they would clean up with the test, Close does. The zero value is ready.
type Program struct {
	testing.TB // nil: what is not below is not called
	cleanups   []func()
}

func (p *Program) Helper()                         {}
func (p *Program) Failed() bool                    { return false }
func (p *Program) Cleanup(f func())                { p.cleanups = append(p.cleanups, f) }
func (p *Program) Logf(format string, args ...any) { log.Printf(format, args...) }
func (p *Program) Skip(args ...any)                { p.Fatal(args...) }

// Fatal closes p and ends the program.
func (p *Program) Fatal(args ...any) {
	p.Close()
	log.Fatal(args...)
}

func (p *Program) Fatalf(format string, args ...any) { p.Fatal(fmt.Sprintf(format, args...)) }

// Close stops the servers, the last one first.
func (p *Program) Close() {
	for len(p.cleanups) > 0 {
		last := len(p.cleanups) - 1
		f := p.cleanups[last]
		p.cleanups = p.cleanups[:last]
		f()
	}
}
