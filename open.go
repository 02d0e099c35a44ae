package session

import (
	"cmp"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Open returns the store that url names. It asks nothing of a server: one that
// is away is noticed by the first request. Close closes the connections, once;
// until then the store is ready for use.
//
//	"" or memory:                                          a MemoryStore
//	redis://[[user]:password@]host[:6379][/db]             one server; rediss:// over TLS
//	unix://[[user]:password@]/path/to/redis.sock[?db=n]
//	redis+sentinel://[[user]:password@]host[:26379][,host...]/master[/db]
//	redis+cluster://[[user]:password@]host[:6379][,host...]
//
// rediss+sentinel:// and rediss+cluster:// use TLS for every connection, and
// verify the server by the system's roots. The user and the password are those
// of the Redis servers. In a password, percent-encode everything but letters and
// digits.
//
// The options, after a question mark:
//
//	prefix             RedisConfig.Prefix
//	replicas           RedisConfig.Replicas
//	db                 the database of a unix URL
//	sentinel_user      for the Sentinels themselves, where they
//	sentinel_password  ask for one
//	max_sessions       MemoryStore.MaxSessions, as in memory:?max_sessions=100000
//
// There are no others: for a client certificate, a roots file or a pool of a
// certain size make the client yourself and call [NewRedisStore]. The clients
// made here wait half a second for a connection, a read or a write, and learn of
// a change in a Cluster within a second.
//
// The error joins every fault of url and quotes none of its parts but the names
// of options, so that it never contains a password.
func Open(url string) (StoreCloser, error) {
	u, err := parseStoreURL(url)
	if err != nil {
		return nil, err
	}
	if u.kind == "memory" {
		s := new(openMemory)
		s.MaxSessions = u.maxSessions
		return s, nil
	}
	client := u.client()
	store, err := NewRedisStore(client, RedisConfig{Prefix: u.options["prefix"], Replicas: u.replicas})
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	if u.kind == "sentinel" {
		store.facts.addrs = u.hosts // the client does not show them
	}
	return &openRedis{RedisStore: store, close: sync.OnceValue(client.Close)}, nil
}

type openMemory struct{ MemoryStore }

func (*openMemory) Close() error { return nil }

// asMemory returns a store that is a MemoryStore, nil for others: what embeds one
// may wait.
func asMemory(store Store) *MemoryStore {
	switch s := store.(type) {
	case *MemoryStore:
		return s
	case *openMemory:
		return &s.MemoryStore
	}
	return nil
}

type openRedis struct {
	*RedisStore
	close func() error
}

func (o *openRedis) Close() error { return o.close() }

// A storeURL is what Open understood of its argument. net/url does not read
// lists of hosts with ports, and its errors quote what they could not parse,
// password included; hence the parsing by hand.
type storeURL struct {
	kind           string // memory, standalone, unix, sentinel or cluster
	tls            bool
	user, password string
	hosts          []string // each with its port
	socket         string
	master         string
	db             int
	replicas       int
	maxSessions    int
	options        map[string]string
}

func (u *storeURL) setScheme(scheme string) bool {
	plain, isTLS := strings.CutPrefix(scheme, "rediss")
	if isTLS {
		u.tls, scheme = true, "redis"+plain
	}
	switch scheme {
	case "redis":
		u.kind = "standalone"
	case "redis+sentinel":
		u.kind = "sentinel"
	case "redis+cluster":
		u.kind = "cluster"
	case "unix":
		u.kind = "unix"
	}
	return u.kind != ""
}

func parseStoreURL(raw string) (storeURL, error) {
	var u storeURL
	if rest, ok := strings.CutPrefix(cmp.Or(raw, "memory:"), "memory:"); ok && (rest == "" || rest[0] == '?') {
		u.kind = "memory"
		return u, u.setOptions(strings.TrimPrefix(rest, "?"))
	}
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok || !u.setScheme(scheme) {
		return u, errors.New("session: the store URL begins with none of memory:, redis://, rediss://, unix://, redis+sentinel://, rediss+sentinel://, redis+cluster://, rediss+cluster://")
	}
	rest, query, _ := strings.Cut(rest, "?")
	authority, path, _ := strings.Cut(rest, "/")
	// A password with a raw slash or question mark ends the authority early, and
	// its rest would be taken for a path or an option. Nothing else can be said
	// about such a URL with certainty.
	if strings.ContainsAny(path+query, "@#") || strings.Contains(authority, "#") {
		return u, errors.New("session: the store URL has an @ or a # where none can be; in user and password write %40 for @, %2F for /, %3F for ?, %23 for #")
	}
	err := errors.Join(
		u.setAuthority(authority),
		u.setOptions(query),
		u.setPath(path),
	)
	if err == nil {
		err = checkKeyPrefix(u.options["prefix"])
	}
	return u, err
}

func (u *storeURL) setAuthority(authority string) error {
	hosts := authority
	var err error
	if at := strings.LastIndex(authority, "@"); at >= 0 {
		hosts = authority[at+1:]
		err = u.setUserinfo(authority[:at])
	}
	return errors.Join(err, u.setHosts(hosts))
}

func (u *storeURL) setUserinfo(userinfo string) error {
	rawUser, rawPassword, _ := strings.Cut(userinfo, ":")
	user, errUser := url.PathUnescape(rawUser)
	password, errPassword := url.PathUnescape(rawPassword)
	if errUser != nil || errPassword != nil {
		return errors.New("session: the store URL's user or password has a % without two hexadecimal digits; write %25 for %")
	}
	if password == "" {
		return errors.New("session: the store URL has an @ but no password before it; write user:password@ or :password@")
	}
	u.user, u.password = user, password
	return nil
}

func (u *storeURL) setHosts(hosts string) error {
	if u.kind == "unix" {
		if hosts != "" {
			return errors.New("session: a unix store URL names no host; write three slashes before the socket's path")
		}
		return nil
	}
	if u.kind == "standalone" && strings.Contains(hosts, ",") {
		return errors.New("session: the store URL names several hosts; use redis+sentinel:// or redis+cluster://")
	}
	port := "6379"
	if u.kind == "sentinel" {
		port = "26379"
	}
	for i, host := range strings.Split(hosts, ",") {
		address, ok := hostPort(host, port)
		if !ok {
			return errors.New("session: host " + strconv.Itoa(i+1) + " of the store URL is not a name or an address with, perhaps, a port; write host, host:port or [IPv6]:port")
		}
		u.hosts = append(u.hosts, address)
	}
	return nil
}

func hostPort(s, defaultPort string) (string, bool) {
	host, port := s, defaultPort
	if i := strings.LastIndex(s, ":"); i > strings.LastIndex(s, "]") {
		host, port = s[:i], s[i+1:]
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", false
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		inner = strings.Replace(inner, "%25", "%", 1) // RFC 6874: a zone's % is escaped
		addr, err := netip.ParseAddr(inner)
		return net.JoinHostPort(inner, port), ok && err == nil && addr.Is6()
	}
	return net.JoinHostPort(host, port), host != "" && strings.Trim(host, letters+"0123456789.-_") == ""
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

func (u *storeURL) setPath(path string) error {
	path, err := url.PathUnescape(path)
	if err != nil {
		return errors.New("session: the store URL's path has a % without two hexadecimal digits; write %25 for %")
	}
	switch u.kind {
	case "unix":
		if path == "" {
			return errors.New("session: the store URL names no socket; write unix:///path/to/redis.sock")
		}
		u.socket = "/" + path
		return u.setDB(u.options["db"])
	case "sentinel":
		master, db, _ := strings.Cut(path, "/")
		if master == "" {
			return errors.New("session: the store URL names no master; write redis+sentinel://host/master")
		}
		u.master = master
		return u.setDB(db)
	case "cluster":
		if path != "" && path != "0" {
			return errors.New("session: a Redis Cluster has only database 0; leave the path out of the store URL")
		}
		return nil
	}
	return u.setDB(path)
}

func (u *storeURL) setDB(db string) error {
	n, err := strconv.ParseUint(cmp.Or(db, "0"), 10, 31)
	if err != nil {
		return errors.New("session: the database in the store URL is not a number; the first one is 0")
	}
	u.db = int(n)
	return nil
}

// isOptionName is narrow, because names are what the error quotes.
func isOptionName(s string) bool {
	return s != "" && len(s) <= 32 && strings.Trim(s, letters+"_") == ""
}

func (u *storeURL) setOptions(query string) error {
	u.options = make(map[string]string)
	if query == "" {
		return nil
	}
	var errs []error
	for pair := range strings.SplitSeq(query, "&") {
		name, raw, hasValue := strings.Cut(pair, "=")
		value, err := url.QueryUnescape(raw)
		_, twice := u.options[name]
		switch {
		case !hasValue || !isOptionName(name):
			errs = append(errs, errors.New("session: an option of the store URL does not read name=value"))
		case !u.takesOption(name):
			errs = append(errs, errors.New("session: the store URL does not take the option "+name+"; "+u.instead()))
		case err != nil || value == "":
			errs = append(errs, errors.New("session: the store URL's option "+name+" has no readable value; write %25 for %"))
		case twice:
			errs = append(errs, errors.New("session: the store URL has the option "+name+" twice"))
		default:
			u.options[name] = value
		}
	}
	return errors.Join(append(errs, u.setReplicas(u.options["replicas"]), u.setMaxSessions(u.options["max_sessions"]))...)
}

// instead is what somebody does who needs more than a URL can say.
func (u *storeURL) instead() string {
	if u.kind == "memory" {
		return "make the session.MemoryStore yourself"
	}
	return "make the client yourself and call session.NewRedisStore"
}

func (u *storeURL) setMaxSessions(most string) error {
	n, err := strconv.ParseUint(cmp.Or(most, "0"), 10, 31)
	if err != nil || n == 0 && most != "" {
		return errors.New("session: the store URL's option max_sessions is not a number of 1 or more; leave it out for any number of sessions")
	}
	u.maxSessions = int(n)
	return nil
}

func (u *storeURL) setReplicas(replicas string) error {
	n, err := strconv.ParseUint(cmp.Or(replicas, "0"), 10, 31)
	if err != nil || n > maxReplicas {
		return errors.New("session: the store URL's option replicas is not a number from 0 to 16, which is how many replicas must have a write")
	}
	u.replicas = int(n)
	return nil
}

func (u *storeURL) takesOption(name string) bool {
	switch name {
	case "max_sessions":
		return u.kind == "memory"
	case "prefix", "replicas":
		return u.kind != "memory"
	case "db":
		return u.kind == "unix"
	case "sentinel_user", "sentinel_password":
		return u.kind == "sentinel"
	}
	return false
}

// patience bounds each dial, read and write of a client that Open makes. It is
// well under Config.StoreTimeout, so that one lost packet is not a lost request.
const patience = 500 * time.Millisecond

// client makes the client without connecting it. In all three: one dial per
// attempt, because the manager tries again anyway; no CLIENT SETINFO and no
// maintenance handshake, which cost each connection a round trip and a refusal
// in the server's ACL log where only the documented commands are allowed.
func (u *storeURL) client() redis.UniversalClient {
	var tlsConfig *tls.Config
	if u.tls {
		tlsConfig = &tls.Config{}
	}
	switch u.kind {
	case "sentinel":
		return redis.NewFailoverClient(u.failoverOptions(tlsConfig))
	case "cluster":
		return redis.NewClusterClient(u.clusterOptions(tlsConfig))
	}
	return redis.NewClient(u.singleOptions(tlsConfig))
}

func (u *storeURL) singleOptions(tlsConfig *tls.Config) *redis.Options {
	o := &redis.Options{
		Network:                  "tcp",
		Username:                 u.user,
		Password:                 u.password,
		DB:                       u.db,
		TLSConfig:                tlsConfig,
		ContextTimeoutEnabled:    true,
		DialTimeout:              patience,
		ReadTimeout:              patience,
		WriteTimeout:             patience,
		DialerRetries:            1,
		PipelinePoolSize:         -1, // loads and saves share their connections
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if u.kind == "unix" {
		o.Network, o.Addr = "unix", u.socket
		return o
	}
	o.Addr = u.hosts[0]
	return o
}

func (u *storeURL) failoverOptions(tlsConfig *tls.Config) *redis.FailoverOptions {
	return &redis.FailoverOptions{
		MasterName:            u.master,
		SentinelAddrs:         u.hosts,
		SentinelUsername:      u.options["sentinel_user"],
		SentinelPassword:      u.options["sentinel_password"],
		Username:              u.user,
		Password:              u.password,
		DB:                    u.db,
		TLSConfig:             tlsConfig,
		ContextTimeoutEnabled: true,
		DialTimeout:           patience,
		ReadTimeout:           patience,
		WriteTimeout:          patience,
		DialerRetries:         1,
		PipelinePoolSize:      -1,
		DisableIdentity:       true,
	}
}

func (u *storeURL) clusterOptions(tlsConfig *tls.Config) *redis.ClusterOptions {
	return &redis.ClusterOptions{
		Addrs:                 u.hosts,
		Username:              u.user,
		Password:              u.password,
		TLSConfig:             tlsConfig,
		ContextTimeoutEnabled: true,
		DialTimeout:           patience,
		ReadTimeout:           patience,
		WriteTimeout:          patience,
		DialerRetries:         1,
		PipelinePoolSize:      -1,
		DisableIdentity:       true,
		// A node that refuses connections makes go-redis reload nothing, and its
		// interval is a minute (go-redis issue 3979).
		ClusterStateReloadInterval: time.Second,
		MaintNotificationsConfig:   &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}
