// Package answer answers every request by itself: a status, and what is wrong and what to do as JSON.
package answer

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

// Config says what is answered; {path} in Error stands for the path that was asked for.
// RetryAfter is in seconds; none is sent for 0.
type Config struct {
	Status     int
	Error      string
	Help       string
	RetryAfter int
}

// CreateConfig is called by Traefik.
func CreateConfig() *Config { return &Config{} }

// New is called by Traefik; nothing behind it is ever asked.
func New(_ context.Context, _ http.Handler, config *Config, _ string) (http.Handler, error) {
	return http.HandlerFunc(func(to http.ResponseWriter, request *http.Request) {
		said := strings.ReplaceAll(config.Error, "{path}", request.URL.Path)
		body, _ := json.Marshal(map[string]string{"error": said, "help": config.Help})
		to.Header().Set("Content-Type", "application/json")
		if config.RetryAfter > 0 {
			to.Header().Set("Retry-After", strconv.Itoa(config.RetryAfter))
		}
		to.WriteHeader(config.Status)
		_, _ = to.Write(body)
	}), nil
}
