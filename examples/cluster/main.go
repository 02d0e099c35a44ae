// Cluster shows what happens to visitors' sessions when servers die: a balancer,
// three servers and Redis on this machine, and a page with buttons that kill them.
//
//	go run ./examples/cluster            the page; it prints its address
//	go run ./examples/cluster -report    every way and every fault, unattended
//
// Everything that it starts listens on this machine only and ends with it; on
// Linux also if it is killed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9/logging"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "app" {
		exitOn(runApp(os.Args[2:]))
		return
	}
	exitOn(run())
}

const usage = `Cluster runs a balancer, three servers, Redis with two replicas and three
Sentinels, and simulated visitors, all on this machine, and shows on a page what
becomes of everybody's session when one of them is killed. Everything ends with
it. Redis is Debian's package redis-server; without it, one way remains.

`

func run() error {
	addr := flag.String("addr", "localhost:8080", "listen on this address, which has to be one of this machine's own (loopback)")
	first := flag.String("way", string(stickyMemory), "begin with this way of keeping sessions: memory, drain or redis")
	people := flag.Int("visitors", crowdSize, "how many simulated visitors there are, 0 to 500")
	unattended := flag.Bool("report", false, "try every way with every fault instead, in about three minutes, and write docs/many-servers.md and its plots")
	docs := flag.String("docs", "docs", "the directory that -report writes to")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), usage)
		flag.PrintDefaults()
	}
	flag.Parse()
	if *people < 0 || *people > 500 || *unattended && *people == 0 {
		return errors.New("cluster: -visitors is 0 to 500, and at least 1 for a report")
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if *unattended {
		return withSite(ctx, "127.0.0.1:0", *people, func(c *console) error { return report(ctx, c, *docs) })
	}
	return withSite(ctx, *addr, *people, func(c *console) error {
		if err := c.choose(way(*first)); err != nil {
			return err
		}
		fmt.Printf("Listening on %s\n", c.url)
		<-ctx.Done()
		return nil
	})
}

// withSite runs everything but the application's servers and the visitors for as
// long as f does, and ends all of it.
func withSite(ctx context.Context, addr string, people int, f func(*console) error) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil || !isLoopback(host) {
		return errors.New("cluster: -addr has to be an address of this machine, such as localhost:8080: whoever reaches the page may kill the servers")
	}
	dir, err := os.MkdirTemp("", "cluster")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	defer l.Close()
	logging.Disable() // go-redis writes to the terminal that a server which was killed does not answer
	log.Print("starting Redis and its Sentinels, which takes a few seconds")
	set, err := startRedis(ctx, dir)
	url := ""
	switch {
	case err == nil:
		url = set.url()
		defer set.close()
	case errors.Is(err, errNoRedis):
		log.Print(err)
	default:
		return err
	}
	return serve(ctx, l, people, url, set, f)
}

func serve(ctx context.Context, l net.Listener, people int, redis string, set *redisSet, f func(*console) error) error {
	ctx, cancel := context.WithCancel(ctx)
	b := newBalancer(serverNames...)
	fleet := newFleet(b, redis)
	c := &console{
		ctx: ctx, url: "http://" + l.Addr().String() + "/", people: people, balancer: b, fleet: fleet, redis: set,
		monitor: newMonitor(fleet, set), saw: make(map[way]tally), begun: make(map[way]bool), did: make(map[way]deeds),
	}
	server := &http.Server{Handler: c.handler(), ReadHeaderTimeout: 5 * time.Second}
	go server.Serve(l)
	c.working.Go(func() { b.check(ctx) })
	c.working.Go(func() { c.monitor.run(ctx) })
	defer func() {
		cancel()
		_ = server.Close()
		c.dismiss()
		fleet.close()
		c.working.Wait()
	}()
	return f(c)
}

func exitOn(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
