package sessionotel

import (
	"context"
	"errors"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// failure is the error.type of err, of which there are few: timeout, canceled,
// the code with which a Redis server began its error (READONLY), or the name of
// the error's Go type. A code is also the db.response.status_code.
func failure(err error) []attribute.KeyValue {
	timed, ok := errors.AsType[timeoutError](err)
	if ok && timed.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return []attribute.KeyValue{semconv.ErrorTypeKey.String("timeout")}
	}
	if errors.Is(err, context.Canceled) {
		return []attribute.KeyValue{semconv.ErrorTypeKey.String("canceled")}
	}
	if code, ok := redisCode(err); ok {
		return []attribute.KeyValue{semconv.ErrorTypeKey.String(code), semconv.DBResponseStatusCode(code)}
	}
	return []attribute.KeyValue{semconv.ErrorType(err)}
}

// redisCode is the first word of an error that a Redis server sent, if it is one
// of those that are made to be read by programs.
func redisCode(err error) (code string, ok bool) {
	sent, ok := errors.AsType[redisError](err)
	if !ok {
		return "", false
	}
	code, _, _ = strings.Cut(sent.Error(), " ")
	return code, len(code) >= 3 && len(code) <= 20 && strings.Trim(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

type timeoutError interface {
	error
	Timeout() bool
}

// A redisError is a redis.Error of go-redis, without the import.
type redisError interface {
	error
	RedisError()
}
