// Package redistest starts Redis or Valkey servers that belong to one test:
// standalone, with TLS, with a restricted user, a Cluster, or behind a Sentinel.
// They keep their files in a directory of their own, listen on 127.0.0.1 or on a
// unix socket, and end with the test. [StartProxy] stands between a client and a
// server, counts what passes and loses what it is told to lose.
//
// The binary is redis-server, else valkey-server, from the PATH, or what
// SESSION_REDIS_SERVER names. Without one, tests are skipped; with
// SESSION_REQUIRE_REDIS=1 they fail.
package redistest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sojourn-go/session/internal/child"
	"github.com/sojourn-go/session/internal/loopback"
)

// Config says how a [Server] is run. The zero value is a server without
// persistence or authentication, on a TCP port and a unix socket.
type Config struct {
	// TLS makes every port speak nothing else, among the servers too; Server.CA is
	// the file to trust, the same for all servers of a Cluster or a Failover.
	TLS bool

	// ACL are the rules of a user "app" with the password "app-password", as
	// ACL SETUSER takes them: "~session:* +get". The default user is then off, and
	// the Sentinels of a Failover ask for SentinelUser.
	ACL string

	// Detection is how long the other servers of a Failover or a Cluster take one
	// that is silent for alive; 0: a minute, because a busy machine is silent, too.
	Detection time.Duration

	// Args are further arguments of the server: "--maxmemory", "2mb".
	Args []string

	ca string // PEM file of the certificate, its key beside it; "" without TLS
}

// User names the user that Config.ACL makes, and its password; SentinelUser is one
// that only the Sentinels know.
const (
	User             = "app"
	Password         = "app-password"
	SentinelUser     = "watched"
	SentinelPassword = "sentinel-password"
)

const (
	adminUser     = "admin"
	adminPassword = "admin-password"
)

// A Server is one running server process. It may be stopped, paused and started
// again, always under the same addresses.
type Server struct {
	Addr   string // host:port
	Socket string // path of the unix socket
	CA     string // PEM file of the certificate, if Config.TLS

	t    testing.TB
	cfg  Config
	dir  string
	args []string
	proc *exec.Cmd
	done chan struct{} // closed when proc has ended

	admin     *redis.Client
	adminOnce sync.Once
}

// Start runs a server and waits until it answers.
func Start(t testing.TB, cfg Config) *Server {
	t.Helper()
	s := newServer(t, cfg)
	// Where ports cannot be reserved, another program may have taken it.
	for range 4 {
		if s.tryStart() == nil {
			return s
		}
		s = newServer(t, cfg)
	}
	s.Start()
	return s
}

func newServer(t testing.TB, cfg Config) *Server {
	t.Helper()
	binary(t)
	// Not t.TempDir, whose long names do not fit into the 104 bytes of a socket's.
	dir, err := os.MkdirTemp("", "redistest")
	if err != nil {
		t.Fatal(err)
	}
	port, cfg := freePort(t), cfg.certified(t)
	s := &Server{t: t, cfg: cfg, dir: dir, Addr: "127.0.0.1:" + port, Socket: filepath.Join(dir, "s"), CA: cfg.ca}
	s.args = []string{
		"--bind", "127.0.0.1", "--unixsocket", s.Socket, "--dir", dir, "--logfile", filepath.Join(dir, "log"),
		"--save", "", "--appendonly", "no", "--protected-mode", "no", "--databases", "16",
		"--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1", // a replica catches up, and is missed, within a second
	}
	for _, d := range cfg.listen(port) {
		s.args = append(s.args, "--"+d[0], d[1])
	}
	if cfg.ACL != "" {
		s.args = append(s.args, "--user", "default", "off",
			"--user", adminUser, "on", ">"+adminPassword, "~*", "&*", "+@all",
			"--user", User, "on", ">"+Password)
		s.args = append(s.args, strings.Fields(cfg.ACL)...)
	}
	s.args = append(s.args, cfg.Args...)
	t.Cleanup(func() {
		s.Stop()
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("end of the server's log:\n%s", log[max(0, len(log)-2000):])
		}
		_ = os.RemoveAll(dir)
	})
	return s
}

// certified has a certificate where there is TLS.
func (cfg Config) certified(t testing.TB) Config {
	t.Helper()
	if cfg.TLS && cfg.ca == "" {
		dir, err := os.MkdirTemp("", "redistest")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		cfg.ca = writeCertificate(t, dir)
	}
	return cfg
}

// listen are the directives of a server or a Sentinel that listens on port.
func (cfg Config) listen(port string) [][2]string {
	if !cfg.TLS {
		return [][2]string{{"port", port}}
	}
	return [][2]string{
		{"port", "0"}, {"tls-port", port}, {"tls-auth-clients", "no"},
		{"tls-cert-file", cfg.ca}, {"tls-key-file", keyOf(cfg.ca)}, {"tls-ca-cert-file", cfg.ca},
		{"tls-replication", "yes"}, {"tls-cluster", "yes"},
	}
}

// trust is what a client needs to know the servers; nil without TLS.
func (cfg Config) trust(t testing.TB) *tls.Config {
	t.Helper()
	if !cfg.TLS {
		return nil
	}
	return &tls.Config{RootCAs: roots(t, cfg.ca)}
}

// Start runs the server again after Stop, empty, on the same addresses.
func (s *Server) Start() {
	s.t.Helper()
	if err := s.tryStart(); err != nil {
		s.t.Fatal(err)
	}
}

// StartWith is Start with further arguments, for this once.
func (s *Server) StartWith(args ...string) {
	s.t.Helper()
	if err := s.tryStart(args...); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) tryStart(more ...string) error {
	s.proc = exec.Command(binary(s.t), slices.Concat(s.args, more)...)
	child.EndWithParent(s.proc)
	var stderr bytes.Buffer
	s.proc.Stdout, s.proc.Stderr = &stderr, &stderr
	if err := s.proc.Start(); err != nil {
		return err
	}
	proc, done := s.proc, make(chan struct{})
	s.done = done
	go func() { _ = proc.Wait(); close(done) }()
	for deadline := time.Now().Add(30 * time.Second); !s.ended() && time.Now().Before(deadline); {
		if answers(s.Socket) {
			return nil
		}
		time.Sleep(2 * time.Millisecond)
	}
	s.Stop()
	log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return fmt.Errorf("redistest: the server does not answer: %s %s", stderr.Bytes(), log)
}

// answers reports whether the server on socket answers at all, be it -NOAUTH.
func answers(socket string) bool {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	_, _ = conn.Write([]byte("PING\r\n"))
	line, err := bufio.NewReader(conn).ReadString('\n')
	return err == nil && (line[0] == '+' || bytes.HasPrefix([]byte(line), []byte("-NOAUTH")))
}

// Stop kills the server as a crash would: what it held is gone, connections are
// reset, dials are refused.
func (s *Server) Stop() {
	if s.done == nil {
		return
	}
	_ = s.proc.Process.Kill()
	<-s.done
	_ = os.Remove(s.Socket)
	s.done = nil
}

func (s *Server) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// Pause makes the server silent: connections stay, dials succeed, nothing is
// answered until Resume. It skips the test where a process cannot be paused.
func (s *Server) Pause() { s.t.Helper(); pause(s.t, s.proc.Process) }

// Resume ends a Pause.
func (s *Server) Resume() { s.t.Helper(); resume(s.t, s.proc.Process) }

// Admin returns the client that may do everything, on the unix socket. It is
// closed with the test.
func (s *Server) Admin() *redis.Client {
	s.adminOnce.Do(func() { s.admin = s.newAdmin() })
	return s.admin
}

func (s *Server) newAdmin() *redis.Client {
	o := &redis.Options{Network: "unix", Addr: s.Socket, ContextTimeoutEnabled: true, DisableIdentity: true}
	if s.cfg.ACL != "" {
		o.Username, o.Password = adminUser, adminPassword
	}
	return s.Client(o)
}

// Client returns a client with the options o, which is closed with the test. An
// o without Addr gets the server's, with TLS if the server speaks it, and the
// user that Config.ACL makes. ContextTimeoutEnabled is always set.
func (s *Server) Client(o *redis.Options) *redis.Client {
	if o.Addr == "" {
		o.Addr = s.Addr
		if s.cfg.ACL != "" {
			o.Username, o.Password = User, Password
		}
		o.TLSConfig = s.cfg.trust(s.t)
	}
	o.ContextTimeoutEnabled = true
	c := redis.NewClient(o)
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

// CommandStats returns the calls and the microseconds per call that the server
// counted since CONFIG RESETSTAT, by lower-case command.
func (s *Server) CommandStats() map[string]CommandStat {
	s.t.Helper()
	info, err := s.Admin().InfoMap(context.Background(), "commandstats").Result()
	if err != nil {
		s.t.Fatal(err)
	}
	stats := make(map[string]CommandStat)
	for name, line := range info["Commandstats"] {
		var c CommandStat
		var usec int64
		if _, err := fmt.Sscanf(line, "calls=%d,usec=%d,usec_per_call=%f", &c.Calls, &usec, &c.Microseconds); err != nil {
			s.t.Fatal(err)
		}
		stats[name[len("cmdstat_"):]] = c
	}
	return stats
}

// UsedMemory returns the bytes that the server says its data takes.
func (s *Server) UsedMemory() int {
	s.t.Helper()
	var n int
	info := s.Admin().InfoMap(context.Background(), "memory").Val()
	if _, err := fmt.Sscan(info["Memory"]["used_memory"], &n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

// A CommandStat is what the server knows about one command.
type CommandStat struct {
	Calls        int
	Microseconds float64 // per call
}

func binary(t testing.TB) string {
	t.Helper()
	names := []string{"redis-server", "valkey-server"}
	if name := os.Getenv("SESSION_REDIS_SERVER"); name != "" {
		names = []string{name}
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	const missing = "this test needs redis-server or valkey-server: apt-get install redis-server, or name one in SESSION_REDIS_SERVER"
	if os.Getenv("SESSION_REQUIRE_REDIS") == "1" {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return ""
}

// freePort reserves a port of which port+10000 is one too: a Cluster's node also
// binds that.
func freePort(t testing.TB) string {
	t.Helper()
	for range 100 {
		port, release, err := loopback.Reserve(0)
		if err != nil {
			t.Fatal(err)
		}
		_, releaseBus, err := loopback.Reserve(port + 10000) // out of range for some
		if err != nil {
			release()
			continue
		}
		t.Cleanup(func() { release(); releaseBus() })
		return strconv.Itoa(port)
	}
	t.Fatal("redistest: no free port below 55536")
	return ""
}
