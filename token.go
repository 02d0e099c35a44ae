package session

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"

	"github.com/google/uuid"
)

const (
	idSize     = 16
	secretSize = 32 // 256 bits; OWASP ASVS 5.0, 7.2.3 asks for 128
	hashSize   = sha256.Size
	tokenSize  = idSize + secretSize
	tokenChars = tokenSize / 3 * 4 // a whole number of base64 groups, so each token has one spelling

	// supersededFor is how long a replaced secret is told apart from an unknown
	// one (C7): longer than an answer takes to reach a browser.
	supersededFor = 10 * time.Second
)

// A token is what the cookie carries: the session's ID and its secret. It lives
// on the stack; what waits for the header is the finished Set-Cookie line (T2).
type token [tokenSize]byte

func (t *token) id() uuid.UUID { return uuid.UUID(t[:idSize]) }

// write appends the token as the cookie carries it.
func (t *token) write(line *strings.Builder) {
	var chars [tokenChars]byte
	base64.RawURLEncoding.Encode(chars[:], t[:])
	line.Write(chars[:])
}

// notDigit marks characters that are none of base64url's (RFC 4648, section 5).
const notDigit = 0xff

// digits is the value of each character.
var digits = func() (d [256]byte) {
	for i := range d {
		d[i] = notDigit
	}
	for i, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") {
		d[c] = byte(i)
	}
	return d
}()

// parseToken accepts exactly what write writes. It costs about two
// thirds of encoding/base64 (50 to 70 ns against 75 to 91, November 2026), which
// also skips line breaks; a fuzz test holds the two together.
func parseToken(s string) (t token, ok bool) {
	if len(s) != tokenChars {
		return token{}, false
	}
	var seen byte
	for i, j := 0, 0; i < tokenChars; i, j = i+4, j+3 {
		a, b, c, d := digits[s[i]], digits[s[i+1]], digits[s[i+2]], digits[s[i+3]]
		seen |= a | b | c | d
		t[j], t[j+1], t[j+2] = a<<2|b>>4, b<<4|c>>2, c<<6|d
	}
	return t, seen < 64
}

// mint makes a token with a new secret for id. crypto/rand never fails: since
// Go 1.24 it ends the program rather than return an error.
func mint(id uuid.UUID) (t token) {
	copy(t[:idSize], id[:])
	rand.Read(t[idSize:])
	return t
}

// newID makes a random UUID (RFC 9562, version 4). It names a session and is no
// secret: its 122 random bits are not what keeps visitors apart (T1).
func newID() (id uuid.UUID) {
	rand.Read(id[:])
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}

// newVersion makes a version for one write: random, so that two writers never
// choose the same, and never 0, which means none (C1).
func newVersion() uint64 {
	var b [8]byte
	for {
		rand.Read(b[:])
		if v := binary.BigEndian.Uint64(b[:]); v != 0 {
			return v
		}
	}
}

// hashSecret binds a secret to the application's name, so that two of them on
// one store never accept each other's tokens (T1, T3). A name holds no NUL, and
// a secret's length is fixed: the input can be read in one way only. No salt
// and no slow hash: the secret has 256 random bits.
func hashSecret(name string, t *token) [hashSize]byte {
	var buf [128]byte
	b := append(buf[:0], "session/v1\x00"...)
	b = append(b, name...)
	b = append(b, 0)
	b = append(b, t[idSize:]...)
	return sha256.Sum256(b)
}

func equalHash(stored []byte, presented *[hashSize]byte) bool {
	return subtle.ConstantTimeCompare(stored, presented[:]) == 1
}
