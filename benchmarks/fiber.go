package benchmarks

import (
	"net"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/extractors"
	"github.com/gofiber/fiber/v3/middleware/session"
	"github.com/gofiber/storage/redis/v3"
)

func openFiberMemory(Env) (*App, error) { return openFiber(nil), nil }

func openFiberRedis(env Env) (*App, error) {
	host, portText, err := net.SplitHostPort(env.Redis)
	if err != nil {
		return nil, err
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, err
	}
	return openFiber(redis.New(redis.Config{Host: host, Port: port})), nil
}

func openFiber(storage fiber.Storage) *App {
	app := fiber.New()
	middleware, store := session.NewWithStore(session.Config{
		Storage: storage, IdleTimeout: idleTimeout, AbsoluteTimeout: lifetime,
		Extractor:  extractors.FromCookie(cookieName),
		CookiePath: "/", CookieSecure: true, CookieHTTPOnly: true,
	})
	app.Use(middleware)
	fiberRoutes(app)
	return &App{Fast: app.Handler(), Close: func() { _ = store.Storage.Close() }}
}

func fiberRoutes(app *fiber.App) {
	app.Get(Plain, fiberOK)
	for path, use := range map[string]func(*session.Middleware){
		Visit: func(m *session.Middleware) { m.Set("visits", 1) },
		Read:  func(m *session.Middleware) { mustTrue(m.Get("email") == email) },
		Write: func(m *session.Middleware) { m.Set("visits", m.Get("visits").(int)+1) },
		Login: func(m *session.Middleware) {
			must(m.Regenerate())
			m.Set("email", email)
			m.Set("note", note)
			m.Set("member", true)
			m.Set("visits", 1)
			m.Set("seen", seen)
		},
		Renew:  func(m *session.Middleware) { must(m.Regenerate()) },
		Logout: func(m *session.Middleware) { must(m.Destroy()) },
	} {
		app.Get(path, func(c fiber.Ctx) error {
			use(session.FromContext(c))
			return fiberOK(c)
		})
	}
	app.Get(Dump, func(c fiber.Ctx) error {
		m := session.FromContext(c)
		email, _ := m.Get("email").(string)
		note, _ := m.Get("note").(string)
		member, _ := m.Get("member").(bool)
		visits, _ := m.Get("visits").(int)
		seen, _ := m.Get("seen").(time.Time)
		return c.SendString(dump(email, note, member, visits, seen))
	})
}

func openFiberFloor(Env) (*App, error) {
	app := fiber.New()
	app.Get(Plain, fiberOK)
	return &App{Fast: app.Handler(), Close: func() {}}, nil
}

func fiberOK(c fiber.Ctx) error { return c.SendString("ok") }
