"""Forward auth: a proxy asks about each request, and passes only what is allowed."""
import re

from suite.check import before, equal, instant, theme, wait_until
from suite.session import OTHER, READ, WRITE

check = theme("Forward auth")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
HEADERS = ("key-id", "key-name", "account-id", "external-id", "scopes")


def status(s, caller, mount=None, headers=(), **parts):
    return s.send("ask", caller, headers, mount=mount, **parts).status


@check("A good key passes, with an empty body", "APISIX, oauth2-proxy", "forward_auth")
def _(s):
    answer = s.send("ask", s.key()["key"])
    equal((answer.status, answer.body), (200, b""))


@check("A question without a key, or with an empty one, is refused with a challenge", "Kong, APISIX; RFC 9110, 11.6.1",
       "forward_auth")
def _(s):
    for caller, reason in ((None, "missing_key"), ("", None), ("   ", None), ("123", "invalid_key")):
        answer = s.send("ask", caller)
        s.refusal(answer, "unauthenticated", reason)
        assert re.match(r"^[A-Za-z][A-Za-z-]*( |$)", answer.header("www-authenticate")), answer.headers


@check("Texts that look like references, patterns or code are wrong keys", "APISIX", "forward_auth")
def _(s):
    for text in ("$env://X", "$secret://vault/1/a/b", "null", "undefined", "*", "%", "' OR 1=1 --"):
        equal(status(s, text), 401, text)


@check("A revoked key is refused by the next question, and the proxy is told why", "Kong", "forward_auth", "revoke")
def _(s):
    made = s.key()
    equal(status(s, made["key"]), 200)
    s.revoke(made)
    s.refused("ask", "unauthenticated", "key_revoked", caller=made["key"])


@check("A key is refused from its expiry on", "Kong, oauth2-proxy", "forward_auth", "expiry")
def _(s):
    made = s.key(expiresAt=instant(1.5))
    equal(before(made["expiresAt"], lambda: status(s, made["key"])), 200)
    wait_until(made["expiresAt"])
    s.refused("ask", "unauthenticated", "key_expired", caller=made["key"])


@check("A disabled key and a suspended account are refused", "Keygen", "forward_auth", "disable", "suspend", "accounts")
def _(s):
    s.refused("ask", "unauthenticated", "key_disabled", caller=s.key(enabled=False)["key"])
    account = s.account()
    s.ok("update_account", id=account["id"], body={"status": "suspended"})
    s.refused("ask", "unauthenticated", "account_suspended", caller=account["apiKey"]["key"])


@check("After a rotation without a grace period only the new text passes", "Kong", "forward_auth", "rotation")
def _(s):
    made = s.key()
    new = s.rotate(made, gracePeriodSeconds=0)
    equal((status(s, made["key"]), status(s, new["key"])), (401, 200))


@check("In a grace period both texts pass, and the old one is told its end", "RFC 9745, RFC 8594", "forward_auth",
       "rotation")
def _(s):
    made = s.key()
    new = s.rotate(made, gracePeriodSeconds=600)
    old, fresh = s.send("ask", made["key"]), s.send("ask", new["key"])
    equal((old.status, fresh.status), (200, 200))
    assert old.header("sunset") and old.header("deprecation").startswith("@"), old.headers
    equal((fresh.header("sunset"), fresh.header("deprecation")), (None, None))


@check("The keys of a deleted account are refused", "Kong", "forward_auth", "accounts")
def _(s):
    account = s.account()
    s.ok("delete_account", id=account["id"])
    s.refused("ask", "unauthenticated", "key_revoked", caller=account["apiKey"]["key"])


@check("The API learns key, account, external id and scopes", "Kong, oauth2-proxy", "forward_auth", "accounts")
def _(s):
    account = s.account(externalId=s.unique("cust"))
    made = s.key(READ, WRITE, account=account["id"], name="CH")
    equal(s.ok("ask", made["key"]), {"keyId": made["id"], "keyName": "CH", "accountId": account["id"],
                                     "externalId": account["externalId"], "scopes": f"{READ} {WRITE}"})


@check("Each key names its own account", "APISIX", "forward_auth", "accounts")
def _(s):
    accounts = [s.account() for _ in range(8)]
    equal([s.ok("ask", it["apiKey"]["key"])["accountId"] for it in accounts], [it["id"] for it in accounts])


@check("Each identity header is always there, and never empty", "a client's own header that passes", "forward_auth")
def _(s):
    identity = s.ok("ask", s.key()["key"])
    equal(identity["externalId"], "-")
    assert all(identity.values()), identity


@check("Identity headers of the client change nothing", "Authelia, oauth2-proxy", "forward_auth")
def _(s):
    made = s.key()
    forged = [(f"X-Keyward-{it}", "forged") for it in HEADERS] + [("X_Keyward_Key_Id", "x"), ("x-KEYWARD-scopes", "*")]
    identity = s.ok("ask", made["key"], forged)
    equal((identity["keyId"], identity["accountId"]), (made["id"], made["accountId"]))
    equal(identity, s.ok("ask", made["key"]))


@check("A name that is not plain ASCII is encoded in the header", "header injection; APISIX", "forward_auth")
def _(s):
    for name, shown in (("ä%", "%C3%A4%25"), ("-", "%2D"), ("日", "%E6%97%A5")):
        equal(s.ok("ask", s.key(name=name)["key"])["keyName"], shown)
    s.refused("create_key", "invalid", body={"name": "a\r\nX-Admin: 1", "scopes": [READ]})


@check("The scopes of the question are all needed", "oauth2-proxy", "forward_auth", "scopes")
def _(s):
    text = s.key(READ, OTHER)["key"]
    equal(status(s, text, scopes=[READ, OTHER]), 200)
    for scopes in ([WRITE], [READ, WRITE]):
        s.refused("ask", "forbidden", "missing_scope", caller=text, scopes=scopes)


@check("A question that cannot be understood lets no request pass", "a mistake in the proxy", "forward_auth",
       "catalogue")
def _(s):
    request = s.request("ask", s.root)
    for query in ("?scope=nope:read", "?scope=", "?foo=1", "?scope=orders:read,products:read",
                  "?scope=orders:read&x=1"):
        s.refusal(s.transmit(request.but(path=request.path + query)), "forbidden", "authz_misconfigured")


@check("Two keys in one question are refused", "Kong", "forward_auth")
def _(s):
    request, text = s.request("ask", None), s.key()["key"]
    for headers in ([("X-API-Key", text)] * 2, [("Authorization", f"Bearer {text}")] * 2,
                    [("X-API-Key", text), ("Authorization", f"Bearer {s.root}")]):
        equal(s.transmit(request.plus(*headers)).status, 401)


@check("A key is found in X-API-Key and as a bearer token, in any case", "Kong, Authelia", "forward_auth")
def _(s):
    request, text = s.request("ask", None), s.key()["key"]
    for header in (("x-api-KEY", text), *(("Authorization", f"{it} {text}") for it in ("Bearer", "bearer", "BEARER"))):
        equal(s.transmit(request.plus(header)).status, 200, str(header[0]))
    equal(s.transmit(request.plus(("X_API_Key", text))).status, 401)


@check("Another Authorization than a key is left to the API", "Kong", "forward_auth")
def _(s):
    text = s.key()["key"]
    for other in ("Basic YTpi", "Bearer eyJhbGciOi.x.y"):
        equal(status(s, text, headers=[("Authorization", other)]), 200, other)
    for alone in ("", "Bearer", "Bearer  ", "Basic", "Basic YTpi", "Invalid dXNlcg=="):
        equal(status(s, None, headers=[("Authorization", alone)]), 401, alone)


@check("Each method of the question is answered, and a body is ignored", "APISIX", "forward_auth")
def _(s):
    request = s.request("ask", s.key()["key"])
    for method in ("GET", "POST", "PUT", "DELETE", "PROPFIND"):
        equal(s.transmit(request.but(method=method)).status, 200, method)
    equal(s.transmit(request.but(method="POST", body=b"x" * 5000)).status, 200)
    chunked = request.but(method="POST", body=b"5\r\nhello\r\n0\r\n\r\n").plus(("Transfer-Encoding", "chunked"))
    equal(s.transmit(chunked).status, 200)


@check("No answer may be cached", "oauth2-proxy", "forward_auth")
def _(s):
    for caller in (s.key()["key"], None, "wrong"):
        equal(s.send("ask", caller).header("cache-control"), "no-store")


@check("A preflight request needs a key, unless the operator decides otherwise", "Kong, oauth2-proxy", "forward_auth")
def _(s):
    headers = (("Origin", "https://a.example"), ("Access-Control-Request-Method", "GET"))
    equal(s.transmit(s.request("ask", None).but(method="OPTIONS").plus(*headers)).status, 401)


@check("No key, no request: each mount and each method", "Authelia", "policy")
def _(s):
    for mount in s.adapter.mounts:
        for method in METHODS:
            equal(status(s, None, mount, method=method), 401, f"{mount} {method}")


@check("A key with the scopes passes on each mount, with each method", "Authelia", "policy")
def _(s):
    text = s.key(READ, WRITE)["key"]
    for mount in s.adapter.mounts:
        for method in METHODS:
            equal(status(s, text, mount, method=method), 200, f"{mount} {method}")


@check("The method decides which scope is needed", "APISIX", "policy")
def _(s):
    reader, writer = s.key(READ)["key"], s.key(WRITE)["key"]
    for mount in s.adapter.mounts:
        for method in METHODS:
            expected = (200, 403) if method in ("GET", "HEAD") else (403, 200)
            equal((status(s, reader, mount, method=method), status(s, writer, mount, method=method)), expected)


@check("What no route allows is refused, also to the root key", "Authelia: default deny", "policy")
def _(s):
    for mount in s.adapter.mounts:
        for method, uri in (("GET", "/nothing"), ("GET", "/"), ("OPTIONS", "/orders/7"), ("PROPFIND", "/orders/7"),
                            ("POST", "/products/7")):
            answer = s.send("ask", mount=mount, method=method, uri=uri)
            s.refusal(answer, "forbidden")
            equal(answer.header("x-keyward-reason"), "no_route", f"{mount} {method} {uri}")


@check("A text that is no method is never allowed", "Authelia", "policy")
def _(s):
    for mount in ("nginx", "forward"):
        for method in ("GETz", "get", "GET POST", "G\u00cbT", ""):
            assert status(s, None, mount, method=method, uri="/health") in (400, 401, 403), (mount, method)


@check("A public route needs no key, and names no identity", "Kong, Authelia", "policy")
def _(s):
    for mount in s.adapter.mounts:
        for caller in (None, "wrong", s.key()["key"]):
            answer = s.send("ask", caller, mount=mount, uri="/health")
            equal((answer.status, s.adapter.result("ask", answer)["keyId"]), (200, "-"))
            assert "wrong" not in str(answer.headers)


@check("A public route is public for its methods only", "oauth2-proxy", "policy")
def _(s):
    for mount in s.adapter.mounts:
        equal([status(s, None, mount, method=it, uri="/health") for it in ("GET", "HEAD")], [200, 200])
        assert status(s, None, mount, method="POST", uri="/health") in (401, 403)


@check("An optional route names a good key, and refuses a bad one", "Kong, Authelia", "policy", "revoke")
def _(s):
    good, bad = s.key(), s.key()
    s.revoke(bad)
    for mount in s.adapter.mounts:
        ask = lambda caller: s.send("ask", caller, mount=mount, uri="/catalogue/1")
        equal([ask(it).status for it in (None, good["key"], bad["key"], "wrong")], [200, 200, 401, 401], mount)
        found = [s.adapter.result("ask", ask(it))["keyId"] for it in (None, good["key"])]
        equal(found, ["-", good["id"]])


@check("A path is compared by segments", "Authelia: look-alikes", "policy")
def _(s):
    text = s.key(READ)["key"]
    for mount in s.adapter.mounts:
        for uri, expected in (("/orders", 200), ("/orders/", 200), ("/orders/7/items", 200), ("/orders-admin", 403),
                              ("/ORDERS/7", 403), ("/xorders/7", 403), ("/orders?x=/products", 200)):
            equal(status(s, text, mount, uri=uri), expected, f"{mount} {uri}")


@check("A path that two programs read differently is refused", "oauth2-proxy; CVE-2021-32637 of Authelia", "policy")
def _(s):
    text = s.key(READ)["key"]
    for mount in s.adapter.mounts:
        for uri in ("//orders", "/orders/../products", "/orders/%2e%2e/x", "/orders%2F..%2Fproducts", "/%2F/orders",
                    "/orders\\x", "/orders/%5c", "/orders;a", "/./orders", "/orders/%zz", "/orders/%25%32%66",
                    "/orders/%00", "/orders/%ff", "/orders//7"):
            equal(status(s, text, mount, uri=uri), 403, f"{mount} {uri}")


@check("No spelling of another path becomes public", "oauth2-proxy", "policy")
def _(s):
    for mount in s.adapter.mounts:
        for uri in ("/orders?/health", "/orders/../health", "/orders%3f/health", "/orders/%23/health", "/health/x",
                    "/HEALTH", "/health%00"):
            assert status(s, None, mount, uri=uri) in (401, 403), (mount, uri)
    for mount in ("nginx", "forward"):
        for uri in ("/orders#/health", "http://x/health"):
            assert status(s, None, mount, uri=uri) in (401, 403), (mount, uri)


@check("A control character in the forwarded path is refused", "CVE-2021-32637 of Authelia", "policy")
def _(s):
    text = s.key(READ)["key"]
    head = f"GET /authz/nginx HTTP/1.1\r\nHost: a\r\nX-API-Key: {text}\r\nX-Original-Method: GET\r\n"
    ask = lambda uri: s.transmit_bytes(f"{head}X-Original-URI: {uri}\r\nConnection: close\r\n\r\n".encode())
    equal(ask("/orders/1"), 200)
    for uri in ("/orders/\x001", "/orders/\x7f1"):
        assert ask(uri) in (400, 403), repr(uri)


@check("A question without method or path is refused", "Authelia", "policy")
def _(s):
    text = s.key(READ)["key"]
    for mount in ("nginx", "forward"):
        for omit in ("method", "uri"):
            s.refused("ask", "forbidden", "authz_misconfigured", caller=text, mount=mount, omit=omit)


@check("A mount ignores the headers of other mounts", "APISIX, Authelia", "policy")
def _(s):
    text = s.key(READ)["key"]
    forwarded = [("X-Forwarded-Uri", "/orders/1"), ("X-Forwarded-Method", "GET"), ("X-Forwarded-Host", "a")]
    original = [("X-Original-URI", "/orders/1"), ("X-Original-Method", "GET")]
    for mount, others in (("nginx", forwarded), ("forward", original), ("envoy", forwarded + original)):
        s.refused("ask", "forbidden", "missing_scope", caller=text, headers=others, mount=mount, uri="/products/1")
    for mount, others in (("nginx", forwarded), ("forward", original)):
        request = s.request("ask", text, others, mount=mount)
        for name in ("Uri", "Method", "Host") if mount == "forward" else ("URI", "Method"):
            request = request.without(f"X-{'Forwarded' if mount == 'forward' else 'Original'}-{name}")
        equal(s.transmit(request).status, 403, mount)


@check("Headers that override the method change nothing", "X-HTTP-Method-Override", "policy")
def _(s):
    text = s.key(READ)["key"]
    for mount in s.adapter.mounts:
        override = [("X-HTTP-Method-Override", "GET"), ("X-HTTP-Method", "GET")]
        equal(status(s, text, mount, headers=override, method="DELETE"), 403)


@check("A scope that is taken or given counts for the next question", "Authelia", "policy", "update")
def _(s):
    made = s.key(READ, OTHER)
    equal(status(s, made["key"], "forward"), 200)
    s.update(made, scopes=[OTHER])
    equal(status(s, made["key"], "forward"), 403)
    s.update(made, scopes=[OTHER, READ])
    equal(status(s, made["key"], "forward"), 200)


@check("A key in the query of the request is refused, and not repeated", "Kong takes keys there", "policy")
def _(s):
    text = s.key()["key"]
    for mount in s.adapter.mounts:
        answer = s.send("ask", None, mount=mount, uri=f"/health?apikey={text}")
        s.refusal(answer, "unauthenticated", None)
        assert text not in answer.text + str(answer.headers)


@check("A question with scopes and no mount ignores the routes", "a program that asks for scopes", "policy")
def _(s):
    text = s.key()["key"]
    equal((status(s, text, scopes=[READ]), status(s, text)), (200, 200))


@check("The scopes of the question and of the route are both needed", "two places for one rule", "policy")
def _(s):
    text = s.key(READ)["key"]
    for mount in ("nginx", "forward"):
        equal(status(s, text, mount, scopes=[READ]), 200)
        s.refused("ask", "forbidden", "missing_scope", caller=text, mount=mount, scopes=[OTHER])


@check("A refusal is a problem document, and empty for nginx", "oauth2-proxy", "policy", "problems")
def _(s):
    answer = s.send("ask", None, mount="forward")
    equal((answer.header("content-type"), answer.json["code"]), ("application/problem+json", "missing_key"))
    answer = s.send("ask", None, mount="nginx")
    equal((answer.body, answer.header("x-keyward-reason")), (b"", "missing_key"))
