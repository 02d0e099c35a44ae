// Package browsertest drives a real Chromium, as a visitor would: it opens pages,
// types, clicks and looks. It speaks the WebDriver protocol (a W3C standard) to
// chromedriver, and needs nothing but Debian's packages chromium and
// chromium-driver. Without them tests are skipped; with SESSION_REQUIRE_BROWSER=1
// they fail.
//
// A browser reaches this machine only, keeps its profile in a directory of its
// own, and ends with the test.
package browsertest

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"image"
	"image/png"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Options say what kind of visitor comes. The zero value is Chromium as it is
// installed, with an empty profile.
type Options struct {
	NoScript  bool   // JavaScript is turned off in the browser's settings
	UserAgent string // sent instead of Chromium's own; "": that one

	// Profile is the directory of a visitor who comes again, from [NewProfile].
	// "": one that nobody has used.
	Profile string
	// RestoreTabs is the setting "Continue where you left off".
	RestoreTabs bool
}

// A Browser is one visitor with one tab. Its methods fail the test, so they
// belong to the test's own goroutine. Elements are named by CSS selectors, and
// waited for up to a minute.
type Browser struct {
	t      testing.TB
	driver driver
}

const patience = time.Minute

// Start opens a browser of its own: nothing is shared with others.
func Start(t testing.TB, o Options) *Browser {
	t.Helper()
	chromium := find(t, "chromium", "chromium-browser", "google-chrome")
	b := &Browser{t: t, driver: startDriver(t, find(t, "chromedriver"))}
	var session struct {
		ID string `json:"sessionId"`
	}
	if o.Profile == "" {
		o.Profile = b.driver.profile
	}
	b.must(b.driver.call("POST", "", capabilities(chromium, o), &session))
	b.driver.session = "/" + session.ID
	t.Cleanup(func() {
		if b.driver.session == "" {
			return
		}
		if t.Failed() {
			t.Logf("the browser was at %s and showed:\n%s", b.URL(), b.Text("html"))
		}
		_ = b.quit()
	})
	return b
}

// NewProfile is an empty directory for [Options], which is removed after the
// browsers that are started later.
func NewProfile(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "browsertest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeAll(t, dir) })
	return dir
}

// Close closes the window, as a visitor does who goes, and returns when the
// browser has ended. No other method may be called after it.
func (b *Browser) Close() {
	b.t.Helper()
	b.must(b.quit())
	b.driver.session = ""
}

func (b *Browser) quit() error { return b.driver.call("DELETE", "", nil, nil) }

func find(t testing.TB, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	const missing = "this test needs a browser: apt-get install chromium chromium-driver"
	if os.Getenv("SESSION_REQUIRE_BROWSER") == "1" {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return ""
}

func capabilities(chromium string, o Options) any {
	args := []string{
		"--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps",
		"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
		"--user-data-dir=" + o.Profile,
		// Over a pipe, so that Chromium ends with chromedriver, however that ends.
		"--remote-debugging-pipe",
	}
	if o.UserAgent != "" {
		args = append(args, "--user-agent="+o.UserAgent)
	}
	prefs := map[string]any{"credentials_enable_service": false, "profile.password_manager_leak_detection": false}
	if o.NoScript {
		prefs["profile.default_content_setting_values.javascript"] = 2
	}
	if o.RestoreTabs {
		prefs["session.restore_on_startup"] = 1
	}
	return object{"capabilities": object{"alwaysMatch": object{
		"browserName":         "chrome",
		"goog:loggingPrefs":   object{"browser": "ALL"},
		"goog:chromeOptions":  object{"binary": chromium, "args": args, "prefs": prefs},
		"timeouts":            object{"pageLoad": 30_000, "script": 10_000},
		"acceptInsecureCerts": true,
	}}}
}

func (b *Browser) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// Open goes to a page and waits until it is loaded.
func (b *Browser) Open(url string) {
	b.t.Helper()
	b.must(b.driver.call("POST", "/url", object{"url": url}, nil))
}

// Reload loads the page again.
func (b *Browser) Reload() {
	b.t.Helper()
	b.must(b.driver.call("POST", "/refresh", object{}, nil))
}

// URL is that of the page which is shown.
func (b *Browser) URL() (url string) {
	b.t.Helper()
	b.must(b.driver.call("GET", "/url", nil, &url))
	return url
}

// Click clicks on the middle of the first element that css selects, as a mouse
// does: one that is hidden or covered fails the test. See [Browser.Follow] for
// what leads to another page.
func (b *Browser) Click(css string) {
	b.t.Helper()
	b.must(b.driver.call("POST", b.element(css)+"/click", object{}, nil))
}

// Follow clicks likewise, and waits until another page, or this one again, stands
// in the place of this one.
func (b *Browser) Follow(css string) {
	b.t.Helper()
	root := b.element("html")
	b.Click(css)
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		// Between two pages chromedriver may also answer with an error of its own,
		// and say later what this one stood for.
		err := b.driver.call("GET", root+"/name", nil, nil)
		if isStale(err) {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("browsertest: a click on %s leads nowhere from %s in %v: %v", css, b.URL(), patience, err)
		}
	}
}

// Type types text into the first element that css selects, in place of what it
// holds.
func (b *Browser) Type(css, text string) {
	b.t.Helper()
	at := b.element(css)
	b.must(b.driver.call("POST", at+"/clear", object{}, nil))
	b.must(b.driver.call("POST", at+"/value", object{"text": text}, nil))
}

// Text is what a visitor reads in all elements that css selects, a line or more
// for each. It does not wait for any.
func (b *Browser) Text(css string) string {
	b.t.Helper()
	var all []string
	for _, at := range b.elements(css) {
		var text string
		b.must(b.driver.call("GET", at+"/text", nil, &text))
		all = append(all, text)
	}
	return strings.Join(all, "\n")
}

// Count is how many elements css selects now.
func (b *Browser) Count(css string) int {
	b.t.Helper()
	return len(b.elements(css))
}

// Wait waits for an element, or for a page of which it is part.
func (b *Browser) Wait(css string) {
	b.t.Helper()
	b.element(css)
}

func (b *Browser) element(css string) string {
	b.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if found := b.elements(css); len(found) > 0 {
			return found[0]
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("browsertest: %s is not on the page at %s after %v", css, b.URL(), patience)
		}
	}
}

func (b *Browser) elements(css string) []string {
	b.t.Helper()
	var found []map[string]string // of one entry, whose name the standard made unique
	b.must(b.driver.call("POST", "/elements", object{"using": "css selector", "value": css}, &found))
	paths := make([]string, 0, len(found))
	for _, reference := range found {
		for _, id := range reference {
			paths = append(paths, "/element/"+id)
		}
	}
	return paths
}

// Script runs the body of a JavaScript function inside the page, NoScript or not,
// and returns what it returns, as encoding/json would.
func (b *Browser) Script(body string) (result any) {
	b.t.Helper()
	b.must(b.driver.call("POST", "/execute/sync", object{"script": body, "args": []any{}}, &result))
	return result
}

// Cookies are those that the browser would send to the page's address, with their
// names, values and attributes.
func (b *Browser) Cookies() []*http.Cookie {
	b.t.Helper()
	var found []struct {
		Name, Value, Path, Domain, SameSite string
		HTTPOnly                            bool `json:"httpOnly"`
		Secure                              bool
	}
	b.must(b.driver.call("GET", "/cookie", nil, &found))
	sameSite := map[string]http.SameSite{"Strict": http.SameSiteStrictMode, "Lax": http.SameSiteLaxMode, "None": http.SameSiteNoneMode}
	cookies := make([]*http.Cookie, 0, len(found))
	for _, c := range found {
		cookies = append(cookies, &http.Cookie{Name: c.Name, Value: c.Value, Path: c.Path, Domain: c.Domain, HttpOnly: c.HTTPOnly, Secure: c.Secure, SameSite: sameSite[c.SameSite]})
	}
	return cookies
}

// Console returns what the browser has complained about since the last call:
// scripts that failed, and what it could not load or was not allowed to.
func (b *Browser) Console() []string {
	b.t.Helper()
	var entries []struct{ Level, Message string }
	b.must(b.driver.call("POST", "/se/log", object{"type": "browser"}, &entries))
	var lines []string
	for _, e := range entries {
		lines = append(lines, e.Level+" "+e.Message)
	}
	return lines
}

// A View is what a page is looked at with.
type View struct {
	Width, Height int  // in CSS pixels
	Phone         bool // two pixels to each of those, and fingers instead of a mouse
	Dark          bool // the visitor prefers dark colours
}

// Look makes the browser look at its pages, this one included, in another way.
func (b *Browser) Look(v View) {
	b.t.Helper()
	scale, scheme := 1, "light"
	if v.Phone {
		scale = 2
	}
	if v.Dark {
		scheme = "dark"
	}
	b.devTools("Emulation.setDeviceMetricsOverride", object{"width": v.Width, "height": v.Height, "deviceScaleFactor": scale, "mobile": v.Phone})
	b.devTools("Emulation.setTouchEmulationEnabled", object{"enabled": v.Phone})
	b.devTools("Emulation.setEmulatedMedia", object{"features": []object{{"name": "prefers-color-scheme", "value": scheme}}})
}

// devTools sends what WebDriver has no words for.
func (b *Browser) devTools(command string, params object) {
	b.t.Helper()
	b.must(b.driver.call("POST", "/goog/cdp/execute", object{"cmd": command, "params": params}, nil))
}

// Screenshot is a picture of the part of the page that can be seen.
func (b *Browser) Screenshot() image.Image {
	b.t.Helper()
	var text string
	b.must(b.driver.call("GET", "/screenshot", nil, &text))
	data, err := base64.StdEncoding.DecodeString(text)
	b.must(err)
	picture, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		b.must(fmt.Errorf("browsertest: the screenshot: %w", err))
	}
	return picture
}
