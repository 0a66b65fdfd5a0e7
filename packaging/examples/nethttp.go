// Go net/http: lets keyward verify the API key of each request. Needs Go 1.19 or later and no other package.
// Wrap a handler as in Keyward(orders, "orders:read"). The handler gets a Caller, which names the key.
// KEYWARD_URL is the address of keyward. KEYWARD_KEY_FILE holds your service's own key, with the scope
// api-keys:verify; it is read for each request. The rules are in docs/integrate.md.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log"
	"math"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"time"
)

type Caller struct {
	Code, AccountID, ExternalID, KeyID string
	Valid                              bool
	Scopes, MissingScopes              []string
	RateLimit                          struct{ ResetAt time.Time }
}

var bearer = regexp.MustCompile("(?i)^bearer +(.+)")
var statusOf = map[string]int{"VALID": 200, "MALFORMED": 401, "NOT_FOUND": 401, "REVOKED": 401, "ROTATED": 401, "EXPIRED": 401,
	"DISABLED": 401, "ACCOUNT_SUSPENDED": 401, "INSUFFICIENT_SCOPES": 403, "IP_NOT_ALLOWED": 403, "RATE_LIMITED": 429}

// Is the answer one of this table, and do code and valid agree?
var known = func(c *Caller) bool { return c != nil && statusOf[c.Code] != 0 && c.Valid == (c.Code == "VALID") }

// Keeps connections to keyward open. A transport of its own gives no key to a proxy from the environment.
var client = http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// The errors hold no text of an answer, because it could hold a key.
func verify(question map[string]any) (found *Caller, err error) {
	own, _ := os.ReadFile(os.Getenv("KEYWARD_KEY_FILE")) // Without a key, keyward answers 401.
	body, _ := json.Marshal(question)
	r, err := http.NewRequest("POST", os.Getenv("KEYWARD_URL")+"/api/v1/api-keys/verify", bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("KEYWARD_URL is wrong")
	}
	// "Idempotency-Key": nil sends no header, but lets Go try again if an idle connection was closed.
	r.Header = http.Header{"Content-Type": {"application/json"}, "X-Api-Key": {string(bytes.TrimSpace(own))}, "Idempotency-Key": nil}
	answer, err := client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("no answer (time-out: %t)", os.IsTimeout(err))
	}
	defer answer.Body.Close()
	if json.NewDecoder(answer.Body).Decode(&found) != nil || answer.StatusCode != 200 || !known(found) {
		return nil, fmt.Errorf("status %d, with an unknown answer", answer.StatusCode)
	}
	return found, nil
}

// Returns the status for a request, and keyward's answer or a reason.
func judge(r *http.Request, scopes []string) (int, *Caller) {
	keys := r.Header.Values("X-API-Key")
	if token := bearer.FindStringSubmatch(r.Header.Get("Authorization")); token != nil {
		keys = append(keys, token[1])
	}
	if len(keys) == 0 {
		return 401, &Caller{Code: "MISSING_KEY"}
	} else if keys[0] != keys[len(keys)-1] {
		return 400, &Caller{Code: "CONFLICTING_KEYS"}
	}
	question := map[string]any{"key": keys[0], "scopes": append([]string{}, scopes...)}
	if peer, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		question["clientIp"] = peer.Addr().WithZone("")
	}
	found, err := verify(question)
	if err != nil {
		log.Printf("keyward cannot verify: %v", err)
		return 503, &Caller{Code: "UNAVAILABLE"}
	}
	return statusOf[found.Code], found
}

func Keyward(next func(http.ResponseWriter, *http.Request, *Caller), scopes ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		status, caller := judge(r, scopes)
		problem := map[string]any{"type": "about:blank", "title": http.StatusText(status), "status": status, "code": caller.Code}
		switch status {
		case 200:
			next(w, r, caller)
			return
		case 401:
			w.Header().Set("WWW-Authenticate", `ApiKey realm="api", header="X-API-Key"`)
		case 403:
			problem["missingScopes"] = caller.MissingScopes
		case 429:
			w.Header().Set("Retry-After", fmt.Sprintf("%.0f", math.Max(1, math.Ceil(time.Until(caller.RateLimit.ResetAt).Seconds()))))
		case 503:
			w.Header().Set("Retry-After", "5")
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(problem)
	}
}

// ---- End of the middleware. Below is a sample API. ----

func show(w http.ResponseWriter, r *http.Request, caller *Caller) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"account": caller.AccountID, "key": caller.KeyID, "scopes": caller.Scopes})
}

func main() {
	os.Setenv("KEYWARD_URL", variable("KEYWARD_URL", "http://127.0.0.1:8080"))
	read, write := Keyward(show, "orders:read"), Keyward(show, "orders:write")
	http.HandleFunc("/orders", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			write(w, r)
		} else {
			read(w, r)
		}
	})
	http.HandleFunc("/whoami", Keyward(show))
	log.Fatal(http.ListenAndServe("127.0.0.1:"+variable("PORT", "3000"), nil))
}

func variable(name, otherwise string) string {
	if value, set := os.LookupEnv(name); set {
		return value
	}
	return otherwise
}
