package session_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sojourn-go/session"
	"github.com/sojourn-go/session/internal/redistest"
)

// otherProcess names the Redis that a second process of this test binary is to
// serve sessions from.
const otherProcess = "SESSION_TEST_OTHER_PROCESS"

// These configure it.
const (
	otherMaxPerUser = "SESSION_TEST_MAX_PER_USER"
	otherRefuses    = "SESSION_TEST_REFUSE_LOGINS"
)

// TestOtherProcess is that second process: a site on the Redis that it is told,
// until its standard input ends.
func TestOtherProcess(t *testing.T) {
	addr := os.Getenv(otherProcess)
	if addr == "" {
		return
	}
	perUser, _ := strconv.Atoi(os.Getenv(otherMaxPerUser))
	a := newSite(t, session.Config{MaxPerUser: perUser, RefuseLogins: os.Getenv(otherRefuses) != "", Store: redisStore(t, redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true}))})
	fmt.Println("serving", a.url)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// startProcess runs a site in a process of its own, on the Redis at addr, and
// returns its URL. It ends with the test.
func startProcess(t *testing.T, addr string) string {
	t.Helper()
	return startProcessWith(t, addr, session.Config{})
}

// startProcessWith is startProcess with a limit per user.
func startProcessWith(t *testing.T, addr string, cfg session.Config) string {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestOtherProcess$", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), otherProcess+"="+addr, otherMaxPerUser+"="+strconv.Itoa(cfg.MaxPerUser))
	if cfg.RefuseLogins {
		cmd.Env = append(cmd.Env, otherRefuses+"=1")
	}
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReader(stdout)
	t.Cleanup(func() {
		stdin.Close()
		rest, _ := io.ReadAll(out)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the other process: %v\n%s", err, rest)
		}
	})
	for {
		line, err := out.ReadString('\n')
		if url, ok := strings.CutPrefix(strings.TrimSpace(line), "serving "); ok {
			return url
		}
		if err != nil {
			t.Fatalf("the other process ended before it served: %v", err)
		}
	}
}

// twoProcesses are this one and another on one Redis.
func twoProcesses(t *testing.T) (s scene, other string) {
	t.Helper()
	server := redistest.Start(t, redistest.Config{})
	store := newStallStore(redisStore(t, server.Client(&redis.Options{})))
	a := newSite(t, session.Config{Store: store})
	return scene{store, a, a}, startProcess(t, server.Addr)
}

func TestTwoProcessesOnOneRedis(t *testing.T) {
	s, other := twoProcesses(t)
	t.Run("increments are all counted", func(t *testing.T) {
		for _, step := range []string{"count", "countnow"} {
			s.counts(t, step, other)
		}
	})
	t.Run("different keys are all kept", func(t *testing.T) {
		v := s.visitor(t, "set a old")
		held := v.begin("set a new", "hold")
		want(t, "C2", v.at(other).do("set b new"), http.StatusOK, "nobody a=old b=new")
		want(t, "C2", held.end(), http.StatusOK, "nobody a=new")
		want(t, "C2", v.at(other).do(), http.StatusOK, "nobody a=new b=new")
	})
	t.Run("logout holds against a writer and a reader", func(t *testing.T) {
		v := s.visitor(t, "login alice", "set a old")
		token := v.now()
		tire(t, s.store, token, 10*time.Minute)
		writer, reader := s.a.old(token).begin("hold", "set a new"), s.a.old(token).begin("hold")
		want(t, "C3", v.at(other).do("logout"), http.StatusOK, "nobody")
		wantEnded(t, "C3", writer.end())
		want(t, "C3", reader.end(), http.StatusOK, "alice a=old")
		s.gone(t, "C3", token)
	})
	t.Run("the old token is dead at the instant of a login", func(t *testing.T) {
		v := s.visitor(t, "set kept x")
		token := v.now()
		writer := s.a.old(token).begin("hold", "set a new")
		login := v.at(other).do("login alice")
		wantCookie(t, "L1", login, "token")
		want(t, "L1", s.a.old(token).do(), http.StatusOK, "nobody")
		wantEnded(t, "L1", writer.end())
		want(t, "L1", v.do(), http.StatusOK, "alice kept=x")
	})
	t.Run("a login is dead there, too, when it is renewed here", func(t *testing.T) {
		v := s.visitor(t, "login alice")
		old := s.a.old(v.now())
		wantCookie(t, "L1", v.do("renew"), "token")
		want(t, "L1", old.at(other).do(), http.StatusOK, "nobody")
		wantEnded(t, "C7", old.at(other).do("set a x"))
		want(t, "L1", v.at(other).do(), http.StatusOK, "alice")
	})
	t.Run("one of many redeems", func(t *testing.T) { s.redeems(t, other) })
}
