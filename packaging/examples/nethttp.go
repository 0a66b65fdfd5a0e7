// Go net/http: lets keyward verify the API key of each request. Needs Go 1.19 or later and no other package.
// Wrap a handler as in Keyward(orders, "orders:read"). The handler gets a Caller, which names the key.
// KEYWARD_URL is the address of keyward, and must be set. KEYWARD_KEY_FILE holds your service's own key, with
// the scope api-keys:verify; it is read for each request. The rules are in docs/integrate.md.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"
)

type Caller struct {
	Code, AccountID, ExternalID, KeyID string
	Valid                              bool
	Scopes, MissingScopes              []string
	RateLimit                          struct{ ResetAt time.Time }
}

var statusOf = map[string]int{"VALID": 200, "MALFORMED": 401, "NOT_FOUND": 401, "REVOKED": 401, "ROTATED": 401, "EXPIRED": 401,
	"DISABLED": 401, "ACCOUNT_SUSPENDED": 401, "INSUFFICIENT_SCOPES": 403, "IP_NOT_ALLOWED": 403, "RATE_LIMITED": 429}

// Whether a code is in the table, and agrees with the member valid.
func known(it Caller) bool { return statusOf[it.Code] != 0 && it.Valid == (it.Code == "VALID") }

var bearer = regexp.MustCompile("(?i)^bearer +")

// If KEYWARD_URL is wrong, this is nil: no question can be sent, so every request is refused.
var endpoint, _ = url.Parse(strings.TrimRight(os.Getenv("KEYWARD_URL"), "/") + "/api/v1/api-keys/verify")

// Keeps connections to keyward open. A transport of its own gives no key to a proxy from the environment.
var client = http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// Returns the status for a request, and keyward's answer. The errors hold no text of the answer: it could hold a key.
func judge(r *http.Request, scopes []string) (status int, found Caller, err error) {
	// Splitting at "Bearer " makes two parts of a bearer token, and one of anything else.
	keys := append(r.Header.Values("X-API-Key"), bearer.Split(r.Header.Get("Authorization"), 2)[1:]...)
	if len(keys) == 0 {
		return 401, Caller{Code: "MISSING_KEY"}, nil
	} else if len(keys) > 2 || keys[0] != keys[len(keys)-1] {
		return 400, Caller{Code: "CONFLICTING_KEYS"}, nil
	}
	question := map[string]any{"key": keys[0], "scopes": append([]string{}, scopes...)}
	if peer, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		question["clientIp"] = peer.Addr().WithZone("")
	}
	body, _ := json.Marshal(question)
	own, _ := os.ReadFile(os.Getenv("KEYWARD_KEY_FILE")) // Without a key, keyward answers 401.
	ask, _ := http.NewRequest("POST", "", bytes.NewReader(body))
	// "Idempotency-Key": nil sends no header, but lets Go try again if an idle connection was closed.
	ask.URL, ask.Header = endpoint, http.Header{"Content-Type": {"application/json"}, "X-Api-Key": strings.Fields(string(own)), "Idempotency-Key": nil}
	answer, err := client.Do(ask)
	if err != nil {
		return 503, Caller{Code: "UNAVAILABLE"}, fmt.Errorf("no answer (time-out: %t)", os.IsTimeout(err))
	}
	defer answer.Body.Close()
	if json.NewDecoder(answer.Body).Decode(&found) != nil || answer.StatusCode != 200 || !known(found) {
		return 503, Caller{Code: "UNAVAILABLE"}, fmt.Errorf("status %d, with an unknown answer", answer.StatusCode)
	}
	return statusOf[found.Code], found, nil
}

func Keyward(next func(http.ResponseWriter, *http.Request, *Caller), scopes ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		status, caller, err := judge(r, scopes)
		switch status {
		case 200:
			next(w, r, &caller)
			return
		case 401:
			w.Header().Set("WWW-Authenticate", `ApiKey realm="api", header="X-API-Key"`)
		case 429:
			w.Header().Set("Retry-After", fmt.Sprintf("%.0f", math.Max(1, math.Ceil(time.Until(caller.RateLimit.ResetAt).Seconds()))))
		case 503:
			log.Printf("keyward cannot verify: %v", err)
			w.Header().Set("Retry-After", "5")
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(map[string]any{"type": "about:blank", "title": http.StatusText(status), "status": status,
			"code": caller.Code, "missingScopes": map[int][]string{403: caller.MissingScopes}[status]}) // Else null.
	}
}
