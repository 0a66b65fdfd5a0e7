# A gateway that verifies tokens without asking keyward about a request (docs/tokens.md). Needs PyJWT with cryptography,
# and Python 3.11 or later. It follows the status list of keyward, so it refuses the tokens of a revoked key.
# KEYWARD_URL is the address from which keys and list are fetched. TOKEN_ISSUER is the `public_url` of keyward if that is
# another address, and TOKEN_AUDIENCE the name of this API if the configuration of keyward gives it one.
import base64, json, logging, os, threading, time, urllib.request, zlib
import jwt

URL = os.environ.get("KEYWARD_URL", "http://127.0.0.1:8080").rstrip("/")
ISSUER = os.environ.get("TOKEN_ISSUER", URL).rstrip("/")
AUDIENCE = os.environ.get("TOKEN_AUDIENCE", ISSUER)
LIST = "/token-status/1"
MOST_BYTES = 4 << 20 # A list of 32 million credentials.
LEAST_PAUSE = 1 # Seconds between two attempts.
OLDEST = 15 * 60 # Seconds: no token of keyward lives longer.
LEEWAY = 5 # Seconds by which the clocks of keyward and this machine may differ.
# No proxy from the environment, which could answer for keyward.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

class Refused(Exception): pass # Its arguments: status, code.

def fetch(path):
    with opener.open(URL + path, timeout=2) as answer: return answer.read(MOST_BYTES)

def read(token, keys, kind, audience=None):
    """Returns the claims of a token of this kind, if a key signed it and it has not ended."""
    # The same keys sign tokens and lists. Only `typ` tells them apart.
    head = jwt.get_unverified_header(token)
    key = keys.get(head.get("kid"))
    if key is None or head.get("typ") != kind: raise jwt.InvalidTokenError("another key, or another kind")
    # The algorithm belongs to the key. A token does not choose it.
    return jwt.decode(token, key.key, [key.algorithm_name], issuer=ISSUER, audience=audience, leeway=LEEWAY,
                      options={"require": ["exp", "iat", "iss", "sub"] + ["aud"] * (audience is not None)})

class Keyward:
    """What this gateway knows of keyward: its public keys, and the list of refused tokens. A thread keeps both."""
    keys, bits, ends, made = {}, b"", 0, 0

    def update(self):
        """Fetches both. Returns how many seconds the list is fresh."""
        keys = {it.key_id: it for it in jwt.PyJWKSet.from_json(fetch("/.well-known/jwks.json")).keys}
        claims = read(fetch(LIST).decode(), keys, "statuslist+jwt")
        if claims["sub"] != ISSUER + LIST or claims["status_list"]["bits"] != 1: raise ValueError("another list")
        self.keys = keys
        # A cache may still have an older list. It would accept the tokens of keys that were revoked since.
        # If the list of before is from the future, the clock of this machine was set back, and says nothing about age.
        if claims["iat"] < self.made <= time.time() + LEEWAY: return 0
        packed = claims["status_list"]["lst"]
        bits = zlib.decompressobj().decompress(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)), MOST_BYTES)
        self.bits, self.ends, self.made = bits, claims["exp"], claims["iat"]
        return min(claims["iat"] + claims["ttl"] - time.time(), claims["ttl"])

    def follow(self):
        while True:
            pause = LEAST_PAUSE
            try: pause = max(pause, self.update())
            except Exception as error: logging.getLogger("keyward").error("no new list: %s", type(error).__name__)
            time.sleep(pause)

    def verify(self, authorization, *scopes):
        """Returns the claims of the token in this header, or raises Refused."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token: raise Refused(401, "MISSING_TOKEN")
        # Without a list that still holds, a token could be that of a revoked key.
        if self.ends <= time.time(): raise Refused(503, "UNAVAILABLE")
        try:
            claims = read(token.strip(), self.keys, "at+jwt", AUDIENCE)
            if claims["iat"] + OLDEST + LEEWAY < time.time(): raise jwt.InvalidTokenError("too old")
            place = claims["status"]["status_list"]
            if place["uri"] != ISSUER + LIST: raise jwt.InvalidTokenError("another list")
            refused = self.bits[place["idx"] // 8] >> place["idx"] % 8 & 1 # Beyond the end: IndexError.
        except (jwt.PyJWTError, LookupError, TypeError, ValueError): raise Refused(401, "INVALID_TOKEN") from None
        if refused: raise Refused(401, "REVOKED")
        if not {*scopes} <= {*claims["scope"].split(" ")}: raise Refused(403, "INSUFFICIENT_SCOPES")
        return claims

# ---- End of the middleware. Below is a sample API. ----

import http.server

SCOPES = {("GET", "/orders"): ["orders:read"], ("POST", "/orders"): ["orders:write"], ("GET", "/whoami"): []}
keyward = Keyward()

class Api(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_request(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        needed = SCOPES.get((self.command, self.path))
        if needed is None: return self.answer(404, {"code": "NOT_FOUND"})
        try: claims = keyward.verify(", ".join(self.headers.get_all("Authorization", [])), *needed)
        except Refused as refused: return self.answer(refused.args[0], {"code": refused.args[1]})
        self.answer(200, {"account": claims["sub"], "key": claims["client_id"], "scopes": claims["scope"].split(" ")})

    do_GET = do_POST = handle_request

    def answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        if status == 401: self.send_header("WWW-Authenticate", 'Bearer realm="api"')
        if status == 503: self.send_header("Retry-After", "5")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_): pass

if __name__ == "__main__":
    threading.Thread(target=keyward.follow, daemon=True).start()
    http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", 3000))), Api).serve_forever()
