package benchmarks

import (
	"net/http"

	"github.com/gorilla/sessions"
	echosession "github.com/labstack/echo-contrib/session"
	"github.com/labstack/echo/v4"
)

func openEchoMemory(Env) (*App, error) { return openEcho(newMemStore(), func() {}), nil }

func openEchoRedis(env Env) (*App, error) {
	store, err := newRediStore(env)
	if err != nil {
		return nil, err
	}
	return openEcho(store, func() { _ = store.Close() }), nil
}

func openEcho(store sessions.Store, closeStore func()) *App {
	e := echo.New()
	e.Use(echosession.Middleware(store))
	e.GET(Plain, echoOK)
	for path, use := range map[string]gorillaUse{
		Visit: gorillaVisit, Read: gorillaRead, Write: gorillaWrite, Login: gorillaLogin, Renew: gorillaRenew, Logout: gorillaLogout,
	} {
		e.GET(path, func(c echo.Context) error {
			s, err := echosession.Get(cookieName, c)
			must(err)
			use(c.Response(), c.Request(), s)
			return echoOK(c)
		})
	}
	e.GET(Dump, func(c echo.Context) error {
		s, err := echosession.Get(cookieName, c)
		must(err)
		gorillaDump(c.Response(), c.Request(), s)
		return nil
	})
	return &App{HTTP: e, Close: closeStore}
}

func openEchoFloor(Env) (*App, error) {
	e := echo.New()
	e.GET(Plain, echoOK)
	return &App{HTTP: e, Close: func() {}}, nil
}

func echoOK(c echo.Context) error { return c.String(http.StatusOK, "ok") }
