package main

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

const (
	firefoxOnLinux  = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
	safariOnIPhone  = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Mobile/15E148 Safari/604.1"
	edgeOnWindows   = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0"
	chromeOnAndroid = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36"

	thisDevice = `<span class="badge">This device</span>`
	endOthers  = `action="/devices/end-others"`
	toLogin    = "You need to log in to see that page."
	noSuch     = "You have no such device."
)

// as lets the guest's browser call itself by another name.
func (g *guest) as(userAgent string) *guest {
	g.Transport = calledBrowser{g.Transport.(*http.Transport), userAgent}
	return g
}

type calledBrowser struct {
	*http.Transport
	userAgent string
}

func (b calledBrowser) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("User-Agent", b.userAgent)
	return b.Transport.RoundTrip(r)
}

var (
	nameOfDevice = regexp.MustCompile(`<h2>([\w ]+?) *(?:<span|</h2>)`)
	idOfDevice   = regexp.MustCompile(`name="id" value="([^"]*)"`)
)

// found are the first groups of all matches.
func found(in *regexp.Regexp, text string) (all []string) {
	for _, m := range in.FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	return all
}

// otherDevice is the ID of the one other device on the guest's page.
func (g *guest) otherDevice() string {
	g.t.Helper()
	ids := found(idOfDevice, g.Open(g.URL+"devices").Body)
	if len(ids) != 1 {
		g.t.Fatalf("the page offers to sign out %q, want one device", ids)
	}
	return ids[0]
}

// in and out check whether the guest is logged in.
func (g *guest) in() {
	g.t.Helper()
	g.expect(g.Open(g.URL+"devices"), 200, thisDevice, loginLink)
}

func (g *guest) out() {
	g.t.Helper()
	g.expect(g.Open(g.URL+"devices"), 200, toLogin, logoutForm)
}

func TestShopListsTheDevicesOfItsUserOnly(t *testing.T) {
	eachStore(t, func(t *testing.T, args ...string) {
		desk := open(t, args...).as(firefoxOnLinux)
		phone, bob := desk.another().as(safariOnIPhone), desk.another().as(edgeOnWindows)
		desk.login("alice", "wonderland")
		alone := desk.Open(desk.URL + "devices")
		desk.expect(alone, 200, thisDevice, endOthers)
		phone.login("alice", "wonderland")
		bob.login("bob", "builder")

		got := desk.Open(desk.URL + "devices")
		if names := strings.Join(found(nameOfDevice, got.Body), ", "); names != "Firefox on Linux, Safari on iPhone" {
			t.Errorf("the page lists %s", names)
		}
		if n := strings.Count(got.Body, thisDevice); n != 1 || strings.Index(got.Body, thisDevice) > strings.Index(got.Body, "Safari") {
			t.Errorf("%d devices are this one, want the first", n)
		}
		desk.expect(got, 200, endOthers)
		if csp := got.Header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'") {
			t.Errorf("Content-Security-Policy: %q", csp)
		}
		for _, g := range []*guest{desk, phone, bob} {
			for _, c := range g.Cookies(g.URL) {
				if strings.Contains(got.Body, c.Value) {
					t.Error("the page holds somebody's cookie (T2)")
				}
			}
		}
		// The ID, sent as a cookie, is nobody.
		thief := desk.another()
		thief.withCookies([]*http.Cookie{{Name: "sid", Value: phone.otherDevice()}}, thief.out)
		desk.in()
	})
}

func TestShopSignsOneDeviceOut(t *testing.T) {
	eachStore(t, func(t *testing.T, args ...string) {
		desk := open(t, args...)
		phone, tablet := desk.another().as(safariOnIPhone), desk.another()
		desk.submit("cart", "item", "Kettle")
		desk.login("alice", "wonderland")
		phone.login("alice", "wonderland")
		lost := desk.otherDevice()
		tablet.login("alice", "wonderland")

		desk.expect(desk.submit("devices/end", "id", lost), 200, "That device is signed out.", "Safari")
		phone.out()
		desk.in()
		tablet.in()
		desk.expect(desk.Open(desk.URL), 200, kettleInCart)
		desk.expect(desk.submit("devices/end", "id", lost), 200, noSuch)
	})
}

func TestShopSignsEveryOtherDeviceOut(t *testing.T) {
	eachStore(t, func(t *testing.T, args ...string) {
		desk := open(t, args...)
		phone, tablet, bob := desk.another(), desk.another(), desk.another()
		for _, g := range []*guest{desk, phone, tablet} {
			g.submit("cart", "item", "Kettle")
			g.login("alice", "wonderland")
		}
		bob.login("bob", "builder")

		desk.expect(desk.submit("devices/end-others"), 200, "You are signed out everywhere else.", endOthers)
		phone.out()
		tablet.out()
		bob.in()
		desk.expect(desk.Open(desk.URL), 200, kettleInCart, loginLink)
		phone.expect(phone.Open(phone.URL), 200, "Nothing yet.")
		phone.login("alice", "wonderland") // later logins are welcome
		phone.in()
	})
}

func TestShopSignsNobodyElseOut(t *testing.T) {
	eachStore(t, func(t *testing.T, args ...string) {
		desk := open(t, args...)
		phone, bob, stranger := desk.another(), desk.another(), desk.another()
		desk.login("alice", "wonderland")
		phone.login("alice", "wonderland")
		bob.login("bob", "builder")
		alices := desk.otherDevice()

		for _, id := range []string{alices, uuid.NewString(), uuid.Nil.String(), "", "x"} {
			bob.expect(bob.submit("devices/end", "id", id), 200, noSuch)
		}
		bob.submit("devices/end-others")
		for _, to := range []string{"devices/end", "devices/end-others"} {
			stranger.expect(stranger.submit(to, "id", alices), 200, toLogin)
		}
		if cookies := stranger.Cookies(stranger.URL); len(cookies) != 0 {
			t.Error("being sent to the login form left a cookie (R1)")
		}
		desk.in()
		phone.in()
		bob.in()
	})
}

// A form with one's own ID, which the page does not offer, is a logout.
func TestShopSignsThisDeviceOutByItsID(t *testing.T) {
	desk := open(t)
	phone := desk.another()
	desk.login("alice", "wonderland")
	phone.login("alice", "wonderland")
	desk.expect(desk.submit("devices/end", "id", phone.otherDevice()), 200, "You are logged out.", logoutForm)
	phone.in()
}

func TestShopKeepsFiveDevicesOfAUser(t *testing.T) {
	eachStore(t, func(t *testing.T, args ...string) {
		first := open(t, args...)
		first.login("alice", "wonderland")
		var later []*guest
		for range maxDevices {
			g := first.another()
			g.login("alice", "wonderland")
			later = append(later, g)
		}
		first.out()
		for _, g := range later {
			g.in()
		}
	})
}

func TestShopLogsInBeforeItShowsDevices(t *testing.T) {
	g := open(t)
	form := g.Open(g.URL + "devices")
	g.expect(form, 200, toLogin)
	g.expect(form, 200, `name="next" value="/devices"`)
	g.expect(g.submit("login", "user", "alice", "password", "wrong", "next", "/devices"), http.StatusForbidden, `name="next" value="/devices"`)
	g.expect(g.submit("login", "user", "alice", "password", "wonderland", "next", "/devices"), 200, thisDevice)
	g.submit("logout")
	for _, elsewhere := range []string{"https://evil.example/", "//evil.example/", "/logout", `"><b>`} {
		g.expect(g.Open(g.URL+"login?next="+elsewhere), 200, `name="next" value="/"`, "evil")
		g.expect(g.submit("login", "user", "alice", "password", "wonderland", "next", elsewhere), 200, "Three things for good tea")
	}
}

func TestDevicesAreNamedByWordsOfOurOwn(t *testing.T) {
	for header, want := range map[string]string{
		firefoxOnLinux:  "Firefox on Linux",
		safariOnIPhone:  "Safari on iPhone",
		edgeOnWindows:   "Edge on Windows",
		chromeOnAndroid: "Chrome on Android",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Safari/605.1.15":                      "Safari on Mac",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/142.0.0.0 Mobile/15E148 Safari/604.1": "Chrome on iPhone",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36 OPR/124.0.0.0":              "Opera on Windows",
		"Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36":        "Samsung Internet on Android",
		"curl/8.14.1":                     "curl",
		"<script>alert(1)</script> Linux": "Unknown browser on Linux",
		"":                                "Unknown browser",
		strings.Repeat("x", 1<<20) + " Firefox/1 Linux": "Unknown browser",
	} {
		if got := deviceOf(header).String(); got != want {
			t.Errorf("%.60q is %q, want %q", header, got, want)
		}
	}
}

func TestMomentsInWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                                "1 minute",
		70 * time.Second:                 "1 minute",
		3*time.Minute + 29*time.Second:   "3 minutes",
		89 * time.Minute:                 "89 minutes",
		90 * time.Minute:                 "2 hours",
		11*time.Hour + 59*time.Minute:    "12 hours",
		47 * time.Hour:                   "47 hours",
		48 * time.Hour:                   "2 days",
		400*24*time.Hour + 3*time.Minute: "400 days",
	} {
		if got := about(d); got != want {
			t.Errorf("%v is about %q, want %q", d, got, want)
		}
	}
	if got := ago(time.Now()).Words; got != "just now" {
		t.Errorf("now is %q", got)
	}
}
