package main

import (
	"flag"
	"image/png"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sojourn-go/session/internal/browsertest"
	"github.com/sojourn-go/session/internal/programtest"
)

var updateScreenshots = flag.Bool("update-screenshots", false, "take the pictures of docs/screenshots again, which takes four minutes")

// A window is a guest with a real browser.
type window struct {
	*browsertest.Browser
	t   *testing.T
	url string
}

func openWindow(t *testing.T, url string, o browsertest.Options) *window {
	t.Helper()
	w := &window{browsertest.Start(t, o), t, url}
	w.Open(url)
	return w
}

// login goes through the form that the page links to.
func (w *window) login(password string) {
	w.t.Helper()
	w.Follow(`nav a[href="/login"]`)
	w.sendLogin(password)
}

func (w *window) sendLogin(password string) {
	w.t.Helper()
	w.Type("input[name=user]", "alice")
	w.Type("input[name=password]", password)
	w.Follow("main button")
}

// reads checks what a visitor reads on the page.
func (w *window) reads(texts ...string) {
	w.t.Helper()
	page := w.Text("body")
	for _, text := range texts {
		if !strings.Contains(page, text) {
			w.t.Errorf("%q is not on the page:\n%s", text, page)
		}
	}
}

// quiet checks that nothing on the pages needed what the browser refuses.
func (w *window) quiet() {
	w.t.Helper()
	for _, line := range w.Console() {
		if !strings.Contains(line, "the server responded with a status of 403") {
			w.t.Errorf("the browser complains: %s", line)
		}
	}
}

// The pages do what they say in a real browser, one without JavaScript included.
func TestShopInABrowser(t *testing.T) {
	eachStore(t, func(t *testing.T, args ...string) {
		url := programtest.Start(t, programtest.Self(t), args...).URL
		desk := openWindow(t, url, browsertest.Options{})
		phone := openWindow(t, url, browsertest.Options{NoScript: true, UserAgent: chromeOnAndroid})
		phone.Look(browsertest.View{Width: 360, Height: 740, Phone: true})

		desk.Follow("button[value=Kettle]")
		desk.login("wrong")
		desk.reads("That name and password do not go together.")
		desk.sendLogin("wonderland")
		desk.reads("Welcome, alice.", "Kettle")
		if n := desk.Count(".cart li"); n != 1 {
			t.Errorf("%d things in the cart after the login, want 1", n)
		}
		desk.keepsItsCookie()

		phone.login("wonderland")
		phone.Follow(`nav a[href="/devices"]`)
		phone.reads("Chrome on Android", "Chrome on Linux", "This device", "Sign out everywhere else")
		desk.Follow(`nav a[href="/devices"]`)
		if n := desk.Count(".devices li"); n != 2 {
			t.Errorf("the page lists %d devices, want 2", n)
		}

		desk.Follow(`button[aria-label="Sign out Chrome on Android"]`)
		desk.reads("That device is signed out.", "Chrome on Linux")
		if n := desk.Count(".devices li"); n != 1 {
			t.Errorf("the page lists %d devices, want 1", n)
		}
		phone.Reload()
		phone.reads("You need to log in to see that page.")

		phone.sendLogin("wonderland")
		phone.reads("Your devices", "Chrome on Linux") // where the form was to lead
		phone.Follow(".danger")
		phone.reads("You are signed out everywhere else.")
		desk.Reload()
		desk.reads("You need to log in to see that page.")

		phone.Follow(`nav a[href="/password"]`)
		phone.Type("input[name=password]", "through the glass")
		phone.Follow("main button")
		phone.reads("Your password is changed")
		desk.sendLogin("wonderland")
		desk.reads("That name and password do not go together.")
		phone.Follow("nav button")
		phone.reads("You are logged out.")
		desk.quiet()
		phone.quiet()
	})
}

// keepsItsCookie checks the session's cookie as the browser understood it, and
// that scripts do not see it (T2, T6).
func (w *window) keepsItsCookie() {
	w.t.Helper()
	cookies := w.Cookies()
	if len(cookies) != 1 || cookies[0].Name != "sid" || !cookies[0].HttpOnly || cookies[0].SameSite != http.SameSiteLaxMode {
		w.t.Errorf("the browser keeps %v, want sid, HttpOnly and SameSite=Lax", cookies)
	}
	if seen := w.Script("return document.cookie"); seen != "" {
		w.t.Errorf("scripts see the cookie %q", seen)
	}
}

// No page is wider than a small phone, in whatever state it is.
func TestShopFitsAPhone(t *testing.T) {
	url := programtest.Start(t, programtest.Self(t)).URL
	w := openWindow(t, url, browsertest.Options{UserAgent: safariOnIPhone})
	w.Look(browsertest.View{Width: 320, Height: 640, Phone: true})
	fits := func(path string) {
		t.Helper()
		w.Open(url + path)
		if wide := w.Script("return document.documentElement.scrollWidth"); wide != 320.0 {
			t.Errorf("/%s is %v pixels wide, want 320", path, wide)
		}
	}
	fits("")
	fits("login?next=/devices")
	w.sendLogin("wonderland")
	other := openWindow(t, url, browsertest.Options{})
	other.login("wonderland")
	for _, path := range []string{"", "devices", "password"} {
		fits(path)
	}
}

const screenshots = "../../docs/screenshots"

// The pictures in the documentation are what the shop looks like. The times on
// them are real, so that taking them again takes a while.
func TestScreenshots(t *testing.T) {
	if !*updateScreenshots {
		t.Skip("the pictures are taken by hand: go test -run 'TestScreenshots$' ./examples/login -update-screenshots")
	}
	tablet := open(t).as("Mozilla/5.0 (iPad; CPU OS 18_6 like Mac OS X) Version/26.0 Mobile/15E148 Safari/604.1")
	tablet.login("alice", "wonderland")
	time.Sleep(130 * time.Second)
	office := tablet.another().as(edgeOnWindows)
	office.login("alice", "wonderland")
	time.Sleep(130 * time.Second)
	desk := openWindow(t, tablet.URL, browsertest.Options{UserAgent: firefoxOnLinux})
	phone := openWindow(t, tablet.URL, browsertest.Options{UserAgent: safariOnIPhone})
	desk.login("wonderland")
	phone.login("wonderland")

	desk.picture("devices", 900, false, "devices")
	phone.picture("devices-phone", 400, true, "devices")
}

// picture takes one of the whole page.
func (w *window) picture(name string, width int, phone bool, path string) {
	w.t.Helper()
	w.Open(w.url + path)
	w.Picture(filepath.Join(screenshots, name+".png"), browsertest.View{Width: width, Phone: phone, Dark: phone})
}

func TestScreenshotsAreSmall(t *testing.T) {
	pictures, err := filepath.Glob(screenshots + "/*.png")
	if err != nil || len(pictures) == 0 {
		t.Fatalf("no pictures in %s: %v", screenshots, err)
	}
	for _, name := range pictures {
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		picture, err := png.DecodeConfig(file)
		info, statErr := file.Stat()
		_ = file.Close()
		if err != nil || statErr != nil || picture.Width > 1000 || info.Size() > 100_000 {
			t.Errorf("%s: %v %v, %d pixels wide, %d bytes; want at most 1000 and 100000", name, err, statErr, picture.Width, info.Size())
		}
	}
}
