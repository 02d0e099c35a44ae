package session

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// What go-redis does by default is made for caches: it waits for seconds, tries
// again behind our back and looks at a Cluster's map once a minute. Each line
// here is a default that Open replaces, in every kind of client.
func TestOpenedClientsHaveTheDefaultsOfASessionStore(t *testing.T) {
	for _, raw := range []string{
		"redis://localhost", "unix:///sock", "redis+sentinel://localhost/main", "redis+cluster://localhost",
	} {
		u, err := parseStoreURL(raw)
		if err != nil {
			t.Fatal(err)
		}
		client := u.client()
		defer client.Close()
		var o redis.Options
		switch c := client.(type) {
		case *redis.Client:
			o = *c.Options()
		case *redis.ClusterClient:
			co := c.Options()
			o = redis.Options{
				ContextTimeoutEnabled: co.ContextTimeoutEnabled, DialTimeout: co.DialTimeout, ReadTimeout: co.ReadTimeout,
				WriteTimeout: co.WriteTimeout, DialerRetries: co.DialerRetries, PipelinePoolSize: co.PipelinePoolSize,
				DisableIdentity: co.DisableIdentity, MaintNotificationsConfig: co.MaintNotificationsConfig,
			}
			if co.ClusterStateReloadInterval != time.Second {
				t.Errorf("%s: a dead master is noticed after %v", raw, co.ClusterStateReloadInterval)
			}
			if co.ReadOnly {
				t.Errorf("%s: replicas are read", raw)
			}
		}
		for name, d := range map[string]time.Duration{"dial": o.DialTimeout, "read": o.ReadTimeout, "write": o.WriteTimeout} {
			if d <= 0 || d >= time.Second {
				t.Errorf("%s: the time-out of a %s is %v", raw, name, d)
			}
		}
		for name, ok := range map[string]bool{
			"a context's deadline bounds the sockets":     o.ContextTimeoutEnabled,
			"one dial per attempt":                        o.DialerRetries == 1,
			"loads and saves share connections":           o.PipelinePoolSize == -1,
			"no CLIENT SETINFO, which an ACL may refuse":  o.DisableIdentity,
			"no maintenance handshake, which one may too": o.MaintNotificationsConfig != nil && o.MaintNotificationsConfig.Mode == maintnotifications.ModeDisabled,
		} {
			if !ok {
				t.Errorf("%s: not so: %s", raw, name)
			}
		}
	}
}
