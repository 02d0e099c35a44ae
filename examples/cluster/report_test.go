package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The report in short: a few visitors, and the faults that tell the ways apart.
func TestReportShort(t *testing.T) {
	needsRedis(t)
	kill, stop := faults[1], faults[2]
	cases := []struct {
		way   way
		fault fault
		loses bool
	}{
		{stickyMemory, kill, true},
		{stickyMemory, stop, true},
		{stickyDrain, kill, true},
		{stickyDrain, stop, false},
		{sharedRedis, kill, false},
		{sharedRedis, stop, false},
	}
	err := withSite(t.Context(), "127.0.0.1:0", 12, func(c *console) error {
		for _, x := range cases {
			o, err := c.try(t.Context(), x.way, x.fault, 1200*time.Millisecond)
			if err != nil {
				return err
			}
			got := o.tally
			t.Logf("%s, %s: %+v", x.way.Title(), x.fault.title, got)
			if lost := got.Logouts > 0 && got.Lost > 0; lost != x.loses || !x.loses && got.Logouts+got.Lost > 0 {
				t.Errorf("%s, %s: %d logouts and %d increments lost; want some: %v", x.way.Title(), x.fault.title, got.Logouts, got.Lost, x.loses)
			}
			if got.Twice != 0 || got.Mixed != 0 {
				t.Errorf("%s, %s: %d increments too many, %d answers with another's session", x.way.Title(), x.fault.title, got.Twice, got.Mixed)
			}
			if got.Requests < 50 || o.cost.Requests == 0 {
				t.Errorf("%s, %s: %d requests were answered, and %d cost something; a report of nothing", x.way.Title(), x.fault.title, got.Requests, o.cost.Requests)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A visitor of a site that forgets, miscounts or mixes up people notices.
func TestVisitorsNoticeWhatIsWrong(t *testing.T) {
	v := &visitor{crowd: &crowd{began: time.Now()}, name: "me", in: true, least: 5, most: 6}
	for _, got := range []answer{{User: "me", Count: 6}, {User: "me", Count: 4}, {User: "me", Count: 9}, {User: "you", Count: 50}, {}} {
		v.settle(got)
	}
	want := tally{Lost: 2 + 9, Twice: 3, Mixed: 1, Logouts: 1}
	if got := v.crowd.tally; got != want || v.in {
		t.Errorf("noticed %+v, want %+v and to be logged out", got, want)
	}
}

// What a crowd remembers of a long day is bounded, and its end is right.
func TestCrowdRemembersTheLastMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &crowd{began: time.Now()}
		for range 3 {
			c.note(true, func(*tally) {})
			c.note(false, func(*tally) {})
			line := c.timeline()
			if last := line[len(line)-1]; last != (bucket{1, 1}) || len(line) > 2*bucketsKept+1 {
				t.Errorf("%d buckets, the last one %+v", len(line), last)
			}
			time.Sleep(50 * time.Minute)
		}
	})
}

func someOutcomes() (all []outcome) {
	for i, f := range faults {
		for j, w := range ways {
			all = append(all, outcome{
				way: w, fault: f.title, tally: tally{Requests: 100, Logouts: int64(i * j), Gap: time.Duration(i) * time.Second},
				cost: cost{Requests: 10, CPU: time.Millisecond, Commands: 50}, line: make([]bucket, 100), at: 3 * time.Second,
			})
		}
	}
	return all
}

// The report takes the place of the one before, and nothing else on the page
// changes.
func TestReportReplacesTheOneBefore(t *testing.T) {
	docs := t.TempDir()
	page := filepath.Join(docs, "many-servers.md")
	const before, after = "# Many\n\nwords\n\n" + reportBegin, reportEnd + "\n\nmore words\n"
	if err := os.WriteFile(page, []byte(before+"\nold\n"+after), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := write(docs, someOutcomes(), "Made somewhere."); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	text := string(got)
	if !strings.HasPrefix(text, before+"\nMade somewhere.") || !strings.HasSuffix(text, after) || strings.Contains(text, "old") || strings.Count(text, reportBegin) != 1 {
		t.Errorf("the page became:\n%s", text)
	}
	drawn := 0
	for name := range plots(someOutcomes()) {
		drawn++
		if !strings.Contains(text, "]("+name+")") {
			t.Errorf("the page does not show %s", name)
		}
		svg, err := os.ReadFile(filepath.Join(docs, name))
		if err != nil {
			t.Fatal(err)
		}
		for d := xml.NewDecoder(bytes.NewReader(svg)); err == nil; _, err = d.Token() {
		}
		if !errors.Is(err, io.EOF) {
			t.Errorf("%s is no XML: %v", name, err)
		}
	}
	if drawn != 4 || strings.Count(text, "](many-servers-") != drawn {
		t.Errorf("%d plots and %d links to them, want 4 of each", drawn, strings.Count(text, "](many-servers-"))
	}
	if err := os.WriteFile(page, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	if write(docs, someOutcomes(), "") == nil {
		t.Error("a page without an end of the report was written to")
	}
}

func TestReportNeedsRedis(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := withSite(t.Context(), "127.0.0.1:0", 1, func(c *console) error { return report(context.Background(), c, t.TempDir()) })
	if !errors.Is(err, errNoRedis) {
		t.Errorf("%v, want %v", err, errNoRedis)
	}
}
