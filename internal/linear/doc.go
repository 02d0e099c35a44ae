// Package linear has no code but tests: what several clients saw of a store at
// once, with connections that are cut and servers that are killed, must be
// something that one client after the other could have seen. The checker is
// Porcupine, which is why this is a module of its own.
//
// This is promised of a MemoryStore and of one Redis server that keeps what it
// confirmed. Behind Sentinel or in a Cluster it is not: a failover may bring back
// the record of before a write that nobody confirmed, and without
// RedisConfig.Replicas also of one that was confirmed.
package linear
