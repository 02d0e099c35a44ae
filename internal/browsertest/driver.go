package browsertest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"testing"
	"time"

	"github.com/sojourn-go/session/internal/child"
)

type object = map[string]any

// A driver is a chromedriver process with one browser.
type driver struct {
	url     string // of its sessions
	session string // "/" and the session's ID, once there is one
	profile string // the browser's directory
	client  *http.Client
}

var startedOnPort = regexp.MustCompile(`started successfully on port (\d+)`)

// startDriver runs chromedriver on a port that it chooses itself, until the test
// ends.
func startDriver(t testing.TB, path string) driver {
	t.Helper()
	dir, err := os.MkdirTemp("", "browsertest")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--port=0")
	cmd.Env = append(os.Environ(), "HOME="+dir) // where Chromium would leave caches and crash reports
	child.EndWithParent(cmd)
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	d := driver{profile: dir, client: &http.Client{Transport: new(http.Transport), Timeout: time.Minute}}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		d.client.CloseIdleConnections()
		removeAll(t, dir)
	})
	port := portOf(cmd.Process, stdout)
	if port == "" {
		t.Fatal("browsertest: chromedriver did not start")
	}
	d.url = "http://127.0.0.1:" + port + "/session"
	return d
}

// portOf reads up to the line that names the port. The pipe's buffer has room for
// whatever comes later.
func portOf(process *os.Process, stdout io.Reader) string {
	timer := time.AfterFunc(30*time.Second, func() { _ = process.Kill() })
	defer timer.Stop()
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if m := startedOnPort.FindStringSubmatch(lines.Text()); m != nil {
			return m[1]
		}
	}
	return ""
}

// removeAll removes the profile, to which a browser that is on its way out may
// still write.
func removeAll(t testing.TB, dir string) {
	t.Helper()
	var err error
	for range 100 {
		if err = os.RemoveAll(dir); err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error(err)
}

// A failure is what the standard calls an error response.
type failure struct {
	Command string `json:"-"`
	Code    string `json:"error"`
	Message string
}

func (f *failure) Error() string {
	return fmt.Sprintf("browsertest: %s: %s: %s", f.Command, f.Code, f.Message)
}

// isStale reports whether an element's page is no longer shown.
func isStale(err error) bool {
	var f *failure
	return errors.As(err, &f) && f.Code == "stale element reference"
}

// call sends one command of the session and decodes the value of the answer into
// result, unless that is nil.
func (d *driver) call(method, path string, params, result any) error {
	var body io.Reader
	if params != nil {
		data, err := json.Marshal(params)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequest(method, d.url+d.session+path, body)
	if err != nil {
		return err
	}
	res, err := d.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	var answer struct{ Value json.RawMessage }
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return fmt.Errorf("browsertest: %s %s: %w", method, path, err)
	}
	if res.StatusCode != http.StatusOK {
		failure := &failure{Command: method + " " + path}
		_ = json.Unmarshal(answer.Value, failure)
		return failure
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(answer.Value, result)
}
