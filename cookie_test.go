package session

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

func compile(t testing.TB, c Cookie) cookieHeader {
	t.Helper()
	h, err := c.compile()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestT6CookieDefaults(t *testing.T) {
	var tok token
	value := strings.Repeat("A", tokenChars)
	for name, c := range map[string]struct {
		cookie Cookie
		want   string
	}{
		"zero":      {Cookie{}, "__Host-sid=" + value + "; Path=/; HttpOnly; Secure; SameSite=Lax"},
		"domain":    {Cookie{Domain: "example.com"}, "__Secure-sid=" + value + "; Path=/; Domain=example.com; HttpOnly; Secure; SameSite=Lax"},
		"path":      {Cookie{Path: "/app"}, "__Secure-sid=" + value + "; Path=/app; HttpOnly; Secure; SameSite=Lax"},
		"root path": {Cookie{Path: "/"}, "__Host-sid=" + value + "; Path=/; HttpOnly; Secure; SameSite=Lax"},
		"insecure":  {Cookie{InsecureHTTP: true}, "sid=" + value + "; Path=/; HttpOnly; SameSite=Lax"},
		"strict":    {Cookie{SameSite: http.SameSiteStrictMode}, "__Host-sid=" + value + "; Path=/; HttpOnly; Secure; SameSite=Strict"},
		"none":      {Cookie{SameSite: http.SameSiteNoneMode}, "__Host-sid=" + value + "; Path=/; HttpOnly; Secure; SameSite=None"},
		"persist":   {Cookie{Persist: true}, "__Host-sid=" + value + "; Path=/; HttpOnly; Secure; SameSite=Lax; Max-Age=3600"},
		"named":     {Cookie{Name: "__Host-Http-id"}, "__Host-Http-id=" + value + "; Path=/; HttpOnly; Secure; SameSite=Lax"},
	} {
		h := compile(t, c.cookie)
		if got := h.set(&tok, time.Hour); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
		if len(c.want) > 4096 {
			t.Errorf("%s: browsers drop cookies over 4096 bytes (RFC 6265bis, section 5.7)", name)
		}
	}
}

func TestT6BadCookiesAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		cookie Cookie
		words  []string // the error has them all
	}{
		"__Host- with Domain":         {Cookie{Name: "__Host-a", Domain: "example.com"}, []string{"__Host-a", "Domain"}},
		"__Host- with Path":           {Cookie{Name: "__Host-a", Path: "/x"}, []string{"__Host-a", "Path"}},
		"__host- in small letters":    {Cookie{Name: "__host-a", Path: "/x"}, []string{"Path"}},
		"__Host- over http":           {Cookie{Name: "__Host-a", InsecureHTTP: true}, []string{"InsecureHTTP"}},
		"__Secure- over http":         {Cookie{Name: "__Secure-a", InsecureHTTP: true}, []string{"InsecureHTTP"}},
		"__Http- over http":           {Cookie{Name: "__Http-a", InsecureHTTP: true}, []string{"InsecureHTTP"}},
		"__Host-Http- with Domain":    {Cookie{Name: "__Host-Http-a", Domain: "example.com"}, []string{"Domain"}},
		"None over http":              {Cookie{SameSite: http.SameSiteNoneMode, InsecureHTTP: true}, []string{"None"}},
		"default SameSite":            {Cookie{SameSite: http.SameSiteDefaultMode}, []string{"SameSite"}},
		"SameSite 99":                 {Cookie{SameSite: 99}, []string{"99"}},
		"bad name":                    {Cookie{Name: "a b"}, []string{"Cookie"}},
		"bad domain":                  {Cookie{Domain: "exa mple.com"}, []string{"Cookie"}},
		"bad path":                    {Cookie{Path: "/a;b"}, []string{"Cookie"}},
		"relative path":               {Cookie{Path: "app"}, []string{"Path"}},
		"several faults, all at once": {Cookie{Name: "__Host-a", Domain: "example.com", Path: "/x", SameSite: 99}, []string{"Domain", "Path", "99"}},
	} {
		_, err := c.cookie.compile()
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		for _, word := range c.words {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s: the error does not say %q: %v", name, word, err)
			}
		}
	}
}

// TestClearMatchesSet holds deletion to the same name, Domain and Path, without
// which browsers keep the cookie (RFC 6265bis, section 3.1).
func TestClearMatchesSet(t *testing.T) {
	for _, c := range []Cookie{{}, {Domain: "example.com", Path: "/app"}, {InsecureHTTP: true}} {
		h := compile(t, c)
		var tok token
		set, err := http.ParseSetCookie(h.set(&tok, time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		gone, err := http.ParseSetCookie(h.clear())
		if err != nil {
			t.Fatal(err)
		}
		if gone.MaxAge >= 0 || gone.Value != "" || gone.Name != set.Name || gone.Domain != set.Domain || gone.Path != set.Path || gone.Secure != set.Secure {
			t.Errorf("%+v is not cleared by %+v", set, gone)
		}
	}
}

func TestR3Candidates(t *testing.T) {
	h := compile(t, Cookie{})
	make4 := func() (out [4]string) {
		for i := range out {
			tok := mint(newID())
			out[i] = tok.encode()
		}
		return out
	}
	v := make4()
	for name, c := range map[string]struct {
		lines []string
		want  []string
	}{
		"none":                {nil, nil},
		"one":                 {[]string{"__Host-sid=" + v[0]}, v[:1]},
		"among others":        {[]string{"a=b; __Host-sid=" + v[0] + "; c=d"}, v[:1]},
		"twice the same":      {[]string{"__Host-sid=" + v[0] + "; __Host-sid=" + v[0]}, v[:1]},
		"two lines":           {[]string{"__Host-sid=" + v[0], "__Host-sid=" + v[1]}, v[:2]},
		"four":                {[]string{"__Host-sid=" + strings.Join(v[:], "; __Host-sid=")}, v[:3]},
		"junk first":          {[]string{"__Host-sid=junk; __Host-sid=; __Host-sid; __Host-sid=" + v[0]}, v[:1]},
		"quoted":              {[]string{`__Host-sid="` + v[0] + `"`}, nil},
		"other case":          {[]string{"__host-sid=" + v[0]}, nil},
		"longer":              {[]string{"__Host-sid=" + v[0] + "A"}, nil},
		"percent":             {[]string{"__Host-sid=%41" + v[0][3:]}, nil},
		"standard alphabet":   {[]string{"__Host-sid=+/" + v[0][2:]}, nil},
		"line break inside":   {[]string{"__Host-sid=" + v[0][:62] + "\r\n"}, nil},
		"encoded name":        {[]string{"__%48ost-sid=" + v[0]}, nil},
		"nameless":            {[]string{"=__Host-sid=" + v[0]}, nil},
		"3,001 cookies":       {[]string{strings.Repeat("a=b; ", 3000) + "__Host-sid=" + v[0]}, nil},
		"blank around name":   {[]string{"__Host-sid =" + v[0]}, v[:1]},
		"blank before value":  {[]string{"__Host-sid= " + v[0]}, nil},
		"blank behind value":  {[]string{"__Host-sid=" + v[0] + " ; a=b"}, v[:1]},
		"comma is no divider": {[]string{"a=b, __Host-sid=" + v[0]}, nil},
	} {
		var got []string
		for _, tok := range h.find(c.lines, nil) {
			got = append(got, tok.encode())
		}
		if strings.Join(got, " ") != strings.Join(c.want, " ") {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

func (t *token) encode() string {
	var b strings.Builder
	t.write(&b)
	return b.String()
}

// FuzzCookieHeader holds find to what net/http itself would list (R3).
func FuzzCookieHeader(f *testing.F) {
	tok := mint(uuid.UUID{7})
	v := tok.encode()
	f.Add("sid="+v, "a=b; sid="+v)
	f.Add(" sid = "+v, `sid="`+v+`"`)
	f.Add(";;;sid="+v+";", "sid\t=\n"+v)
	f.Add("\tsid="+v+" \r", "si d="+v+"; =x; sid")
	f.Fuzz(func(t *testing.T, first, second string) {
		h := cookieHeader{name: "sid"}
		lines := []string{first, second}
		got := h.find(lines, nil)
		var want []token
		r := http.Request{Header: http.Header{"Cookie": lines}}
		for _, c := range r.CookiesNamed("sid") {
			if tok, ok := parseToken(c.Value); ok && !c.Quoted && !contains(want, &tok) && len(want) < maxCandidates {
				want = append(want, tok)
			}
		}
		if len(got) != len(want) {
			t.Fatalf("%q: found %d, net/http lists %d", lines, len(got), len(want))
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("%q: candidate %d differs", lines, i)
			}
		}
	})
}

// FuzzToken holds that a token has one spelling, and so one meaning.
func FuzzToken(f *testing.F) {
	tok := mint(newID())
	f.Add(tok.encode())
	f.Add(strings.Repeat("-", tokenChars))
	f.Add(strings.Repeat("=", tokenChars))
	f.Fuzz(func(t *testing.T, s string) {
		tok, ok := parseToken(s)
		if ok && tok.encode() != s {
			t.Fatalf("%q is read as %q", s, tok.encode())
		}
		want, err := base64.RawURLEncoding.DecodeString(s)
		if valid := err == nil && len(s) == tokenChars && len(want) == tokenSize; valid != ok {
			t.Fatalf("%q: accepted %v, encoding/base64 says %v", s, ok, valid)
		}
	})
}

// TestT1EveryBitOfAHashCounts: two hashes that differ anywhere are not equal.
func TestT1EveryBitOfAHashCounts(t *testing.T) {
	tok := mint(newID())
	hash := hashSecret("shop", &tok)
	stored := bytes.Clone(hash[:])
	if !equalHash(stored, &hash) || equalHash(stored[1:], &hash) || equalHash(append(stored, 0), &hash) || equalHash(nil, &hash) {
		t.Fatal("a hash equals itself, and nothing of another length")
	}
	for bit := range hashSize * 8 {
		stored[bit/8] ^= 1 << (bit % 8)
		if equalHash(stored, &hash) {
			t.Errorf("bit %d is not looked at", bit)
		}
		stored[bit/8] ^= 1 << (bit % 8)
	}
}

// TestT1Secrets mints tokens and looks at every bit of the secret.
func TestT1Secrets(t *testing.T) {
	const n = 20_000
	var ones [secretSize * 8]int
	seen := make(map[token]bool, n)
	for range n {
		tok := mint(newID())
		if seen[tok] {
			t.Fatal("a token came twice")
		}
		seen[tok] = true
		if s := tok.encode(); len(s) != 64 || strings.ContainsAny(s, "+/=") {
			t.Fatalf("a token of %d characters", len(s))
		}
		for i := range ones {
			ones[i] += int(tok[idSize+i/8]>>(i%8)) & 1
		}
	}
	for i, c := range ones {
		if c < n/2-400 || c > n/2+400 { // more than 5.6 standard deviations
			t.Errorf("bit %d is set in %d of %d secrets", i, c, n)
		}
	}
}

// TestT3TokensAreBoundToTheName: the same secret hashes differently for each application.
func TestT3TokensAreBoundToTheName(t *testing.T) {
	tok := mint(newID())
	if hashSecret("shop", &tok) == hashSecret("admin", &tok) {
		t.Error("two applications accept each other's tokens")
	}
	long := strings.Repeat("n", 64)
	if hashSecret(long, &tok) == hashSecret(long[:63], &tok) {
		t.Error("a long name is cut")
	}
}

func TestNewIDIsARandomUUID(t *testing.T) {
	for range 100 {
		id := newID()
		if id.Version() != 4 || id.Variant() != uuid.RFC4122 {
			t.Fatalf("%v: version %d, variant %v", id, id.Version(), id.Variant())
		}
	}
}
