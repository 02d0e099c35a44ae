package browsertest_test

import (
	"fmt"
	"image/color"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sojourn-go/session/internal/browsertest"
)

const visitorsPage = `<!doctype html><title>Plain</title><link rel="icon" href="data:,">
<style>:root { color-scheme: light dark } body { background: light-dark(#fff, #000) }</style>
<p class="agent">%s</p><p>one</p><p>two</p>
<form method="post"><input name="word" value="old"><button>Send</button></form>
<script>document.title = "Scripted"</script>`

// site answers with a page, or with what its form sent, and sets two cookies at /, and nowhere else.
func site(t *testing.T) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if r.Method == http.MethodPost {
			fmt.Fprintf(w, "<output>%s</output>", r.PostFormValue("word"))
			return
		}
		if r.URL.Path != "/" {
			return
		}
		http.SetCookie(w, &http.Cookie{Name: "hidden", Value: "1", Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
		http.SetCookie(w, &http.Cookie{Name: "open", Value: "2", Path: "/"})
		fmt.Fprintf(w, visitorsPage, r.UserAgent())
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestBrowserTypesClicksAndReads(t *testing.T) {
	url := site(t)
	b := browsertest.Start(t, browsertest.Options{UserAgent: "Test/1"})
	b.Open(url)
	if got := b.Script("return document.title"); got != "Scripted" {
		t.Errorf("the title is %q: the page's script did not run", got)
	}
	if got := b.Text("p"); got != "Test/1\none\ntwo" {
		t.Errorf("the page reads %q", got)
	}
	if n := b.Count(".none"); n != 0 {
		t.Errorf("%d elements where there are none", n)
	}
	b.Type("input", "new")
	b.Follow("button")
	if got := b.Text("output"); got != "new" {
		t.Errorf("the form sent %q, want what was typed", got)
	}
	if got := b.Console(); got != nil {
		t.Errorf("the browser complains: %q", got)
	}
	b.Script("console.error('oh'); return 1")
	if got := strings.Join(b.Console(), "\n"); !strings.Contains(got, "oh") {
		t.Errorf("the console says %q, want oh", got)
	}
}

func TestBrowsersKeepTheirOwnCookies(t *testing.T) {
	url := site(t)
	b, other := browsertest.Start(t, browsertest.Options{}), browsertest.Start(t, browsertest.Options{})
	b.Open(url)
	if got := b.Script("return document.cookie"); got != "open=2" {
		t.Errorf("a script sees %q, want open=2", got)
	}
	hidden := make(map[string]bool)
	for _, c := range b.Cookies() {
		hidden[c.Name+"="+c.Value] = c.HttpOnly && c.SameSite == http.SameSiteLaxMode
	}
	if len(hidden) != 2 || !hidden["hidden=1"] || hidden["open=2"] {
		t.Errorf("the browser keeps %v, want both, of which one is HttpOnly and Lax", hidden)
	}
	other.Open(url + "/elsewhere")
	if got := other.Script("return document.cookie"); got != "" {
		t.Errorf("the other browser begins with %q", got)
	}
}

func TestBrowserWithoutScript(t *testing.T) {
	b := browsertest.Start(t, browsertest.Options{NoScript: true})
	b.Open(site(t))
	if got := b.Script("return document.title"); got != "Plain" {
		t.Errorf("the title is %q, want Plain: the page's script ran", got)
	}
}

func TestBrowserLooksAsItIsTold(t *testing.T) {
	b := browsertest.Start(t, browsertest.Options{})
	b.Open(site(t))
	for _, c := range []struct {
		view          browsertest.View
		width, height int
		colour        color.Color
	}{
		{browsertest.View{Width: 640, Height: 480}, 640, 480, color.White},
		{browsertest.View{Width: 320, Height: 500, Phone: true, Dark: true}, 640, 1000, color.Black},
	} {
		b.Look(c.view)
		picture := b.Screenshot()
		if size := picture.Bounds().Size(); size.X != c.width || size.Y != c.height {
			t.Errorf("%+v: a picture of %v", c.view, size)
		}
		gotR, gotG, gotB, _ := picture.At(c.width-1, c.height-1).RGBA()
		wantR, wantG, wantB, _ := c.colour.RGBA()
		if gotR != wantR || gotG != wantG || gotB != wantB {
			t.Errorf("%+v: the corner is %v, want %v", c.view, picture.At(c.width-1, c.height-1), c.colour)
		}
	}
}
