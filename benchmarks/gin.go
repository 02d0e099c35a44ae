package benchmarks

import (
	"net/http"
	"time"

	"github.com/gin-contrib/sessions"
	"github.com/gin-contrib/sessions/memstore"
	"github.com/gin-contrib/sessions/redis"
	"github.com/gin-gonic/gin"
)

func openGinMemory(Env) (*App, error) { return openGin(memstore.NewStore(signingKey), func() {}), nil }

func openGinRedis(env Env) (*App, error) {
	store, err := redis.NewStore(10, "tcp", env.Redis, "", "", signingKey)
	if err != nil {
		return nil, err
	}
	backend, err := redis.GetRedisStore(store)
	if err != nil {
		return nil, err
	}
	return openGin(store, func() { _ = backend.Close() }), nil
}

var ginOptions = sessions.Options{Path: "/", MaxAge: int(lifetime / time.Second), HttpOnly: true, Secure: true}

func openGin(store sessions.Store, closeStore func()) *App {
	store.Options(ginOptions)
	e := newGin()
	e.Use(sessions.Sessions(cookieName, store))
	e.GET(Plain, ginOK)
	for path, use := range map[string]func(sessions.Session){
		Visit: ginVisit, Read: ginRead, Write: ginWrite, Login: ginLogin, Renew: ginRenew, Logout: ginLogout,
	} {
		e.GET(path, func(c *gin.Context) {
			use(sessions.Default(c))
			ginOK(c)
		})
	}
	e.GET(Dump, func(c *gin.Context) {
		s := sessions.Default(c)
		email, _ := s.Get("email").(string)
		note, _ := s.Get("note").(string)
		member, _ := s.Get("member").(bool)
		visits, _ := s.Get("visits").(int)
		seen, _ := s.Get("seen").(time.Time)
		c.String(http.StatusOK, "%s", dump(email, note, member, visits, seen))
	})
	return &App{HTTP: e, Close: closeStore}
}

func openGinFloor(Env) (*App, error) {
	e := newGin()
	e.GET(Plain, ginOK)
	return &App{HTTP: e, Close: func() {}}, nil
}

func newGin() *gin.Engine {
	gin.SetMode(gin.ReleaseMode)
	return gin.New()
}

func ginOK(c *gin.Context) { c.String(http.StatusOK, "ok") }

func ginVisit(s sessions.Session) {
	s.Set("visits", 1)
	must(s.Save())
}

func ginRead(s sessions.Session) { mustTrue(s.Get("email") == email) }

func ginWrite(s sessions.Session) {
	s.Set("visits", s.Get("visits").(int)+1)
	must(s.Save())
}

func ginLogin(s sessions.Session) {
	s.Set("email", email)
	s.Set("note", note)
	s.Set("member", true)
	s.Set("visits", 1)
	s.Set("seen", seen)
	must(s.Save())
}

// ginRenew saves: the package has nothing that changes a session's ID.
func ginRenew(s sessions.Session) {
	s.Set("visits", s.Get("visits"))
	must(s.Save())
}

func ginLogout(s sessions.Session) {
	s.Clear()
	s.Options(sessions.Options{Path: "/", MaxAge: -1})
	must(s.Save())
}
