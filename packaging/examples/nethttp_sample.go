// A sample API that nethttp.go protects. It listens on PORT, or else 3000.
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"os"
)

func show(w http.ResponseWriter, r *http.Request, caller *Caller) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"account": caller.AccountID, "key": caller.KeyID, "scopes": caller.Scopes})
}

func main() {
	read, write := Keyward(show, "orders:read"), Keyward(show, "orders:write")
	http.HandleFunc("/orders", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			write(w, r)
		} else {
			read(w, r)
		}
	})
	http.HandleFunc("/whoami", Keyward(show))
	port := os.Getenv("PORT")
	if port == "" {
		port = "3000"
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:"+port, nil))
}
