package session

import (
	"crypto/tls"
	"time"

	"github.com/redis/go-redis/v9"
)

// OpenPatiently is [Open] for tests on a machine that may be too busy for the half
// second that the clients of Open wait: those made here wait half a minute.
func OpenPatiently(url string) (StoreCloser, error) {
	const patience = 30 * time.Second
	u, err := parseStoreURL(url)
	if err != nil {
		return nil, err
	}
	var tlsConfig *tls.Config
	if u.tls {
		tlsConfig = &tls.Config{}
	}
	var client redis.UniversalClient
	switch u.kind {
	case "sentinel":
		o := u.failoverOptions(tlsConfig)
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = patience, patience, patience, patience
		client = redis.NewFailoverClient(o)
	case "cluster":
		o := u.clusterOptions(tlsConfig)
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = patience, patience, patience, patience
		client = redis.NewClusterClient(o)
	default:
		o := u.singleOptions(tlsConfig)
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = patience, patience, patience, patience
		client = redis.NewClient(o)
	}
	store, err := NewRedisStore(client, RedisConfig{Prefix: u.options["prefix"], Replicas: u.replicas})
	if err != nil {
		return nil, err
	}
	return &openRedis{RedisStore: store, close: client.Close}, nil
}
