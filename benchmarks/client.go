package benchmarks

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/valyala/fasthttp"
)

// A Client sends requests to an [App] in the same goroutine, through no socket
// and no recorder: what an exchange costs beside the application is one copy of
// a request, and nothing allocated. It is not safe for concurrent use.
type Client struct {
	app    *App
	status int
	body   []byte

	request http.Request
	header  http.Header // of the request
	cookies [1]string
	answer  http.Header

	fast fasthttp.RequestCtx
}

// NewClient returns a client of a.
func (a *App) NewClient() *Client {
	return &Client{app: a, header: http.Header{}, answer: http.Header{}}
}

var urls = func() map[string]*url.URL {
	m := make(map[string]*url.URL)
	for _, path := range []string{Plain, Visit, Read, Write, Login, Renew, Logout, Dump} {
		m[path] = &url.URL{Scheme: "https", Host: "example.com", Path: path}
	}
	return m
}()

// Do sends a GET for path with cookie, a name=value pair or "". It panics unless
// the answer is 200.
func (c *Client) Do(path, cookie string) {
	c.status, c.body = http.StatusOK, c.body[:0]
	if c.app.Fast != nil {
		c.doFast(path, cookie)
	} else {
		c.doHTTP(path, cookie)
	}
	if c.status != http.StatusOK {
		panic(fmt.Sprintf("benchmarks: %s answered %d: %s", path, c.status, c.body))
	}
}

func (c *Client) doHTTP(path, cookie string) {
	clear(c.answer)
	clear(c.header)
	if cookie != "" {
		c.cookies[0] = cookie
		c.header["Cookie"] = c.cookies[:]
	}
	// As good as new each time, because gorilla/sessions keeps its sessions in it;
	// but in the same place: what a server allocates is nobody's cost here.
	c.request = http.Request{
		Method: http.MethodGet, URL: urls[path], RequestURI: path, Host: "example.com",
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		RemoteAddr: "192.0.2.1:1234", Header: c.header, Body: http.NoBody,
	}
	c.app.HTTP.ServeHTTP(c, &c.request)
}

func (c *Client) doFast(path, cookie string) {
	c.fast.Request.Reset()
	c.fast.Response.Reset()
	c.fast.ResetUserValues()
	c.fast.Request.SetRequestURI(path)
	c.fast.Request.Header.SetHost("example.com")
	if cookie != "" {
		c.fast.Request.Header.Set("Cookie", cookie)
	}
	c.app.Fast(&c.fast)
	c.status = c.fast.Response.StatusCode()
}

// Header, Write and WriteHeader make the client the writer of its own answers.
func (c *Client) Header() http.Header { return c.answer }

func (c *Client) Write(b []byte) (int, error) {
	c.body = append(c.body, b...)
	return len(b), nil
}

// WriteString is what io.WriteString looks for; the server's writer has it too.
func (c *Client) WriteString(s string) (int, error) {
	c.body = append(c.body, s...)
	return len(s), nil
}

func (c *Client) WriteHeader(status int) { c.status = status }

// Body is that of the last answer.
func (c *Client) Body() string {
	if c.app.Fast != nil {
		return string(c.fast.Response.Body())
	}
	return string(c.body)
}

// Cookie returns the name=value pair that the last answer left in a browser
// which sent cookie.
func (c *Client) Cookie(cookie string) string {
	for _, line := range c.setCookies() {
		pair, attributes, _ := strings.Cut(line, ";")
		_, value, _ := strings.Cut(pair, "=")
		cookie = pair
		if value == "" || strings.Contains(strings.ToLower(attributes), "max-age=0") {
			cookie = ""
		}
	}
	return cookie
}

// SetsCookie reports whether the last answer had a Set-Cookie line.
func (c *Client) SetsCookie() bool { return len(c.setCookies()) > 0 }

func (c *Client) setCookies() []string {
	if c.app.Fast == nil {
		return c.answer["Set-Cookie"]
	}
	var lines []string
	for _, line := range c.fast.Response.Header.PeekAll("Set-Cookie") {
		lines = append(lines, string(line))
	}
	return lines
}
