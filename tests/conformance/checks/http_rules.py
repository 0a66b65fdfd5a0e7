"""HTTP: methods, media types, sizes, headers, and errors as problem documents."""
import re

from suite.check import equal, theme
from suite.session import ABSENT, READ, WRONG_KEY

check = theme("HTTP")
GET_OPERATIONS = ("list_keys", "list_scopes", "list_accounts", "list_events", "last_checkpoint", "token_keys", "live",
                  "ready", "api_document")


def with_text(request, text, media_type="application/json"):
    """Returns the request with this body and media type, or without a media type."""
    request = request.without("Content-Type").but(body=text)
    return request if media_type is None else request.plus(("Content-Type", media_type))


def refusals(s):
    """Returns a refusal of each kind."""
    made = s.key()
    create = s.request("create_key", body={"name": "k", "scopes": [READ]})
    return [
        s.send("list_keys", None), s.send("list_keys", made["key"]), s.send("get_key", id=ABSENT),
        s.transmit(create.but(method="DELETE")), s.transmit(with_text(create, b"{")),
        s.transmit(with_text(create, b"{}", "text/plain")), s.transmit(with_text(create, b"{}")),
        s.send("update_key", headers=[("If-Match", '"x"')], id=made["id"], body={"name": "x"}),
        s.transmit(with_text(create, b'"' + b"a" * 70000 + b'"')), s.transmit(s.request("live").but(path="/no-such")),
        s.send("list_keys", WRONG_KEY),
    ]


@check("A refusal is a problem document with a stable code", "RFC 9457", "problems", "http")
def _(s):
    for answer in refusals(s):
        equal(answer.header("content-type"), "application/problem+json", str(answer))
        body = answer.json
        equal(body["status"], answer.status)
        assert re.fullmatch(r"[a-z][a-z0-9_]*", body["code"]), body
        equal(body["type"].rpartition(":")[2], body["code"].replace("_", "-"))
        assert body["title"] and body["detail"], body


@check("Each kind of refusal has its own status", "RFC 9110, 15.5", "problems", "http")
def _(s):
    equal([it.status for it in refusals(s)], [401, 403, 404, 405, 400, 415, 422, 412, 413, 404, 401])


@check("A refusal and its header name the same request id", "a question to the support", "problems", "http")
def _(s):
    answers = refusals(s)
    for answer in answers:
        equal(answer.json["requestId"], answer.header("x-request-id"))
    equal(len({it.json["requestId"] for it in answers}), len(answers))


@check("Each answer has a request id, and takes over a good one of the client", "tracing", "http")
def _(s):
    for operation in GET_OPERATIONS:
        assert s.send(operation).header("x-request-id"), operation
    sent = lambda id: s.send("list_scopes", headers=[("X-Request-Id", id)]).header("x-request-id")
    equal(sent("build-7"), "build-7")
    for wrong in ("a b", "x" * 65, "<script>", ""):
        assert sent(wrong) not in (wrong, None), wrong


@check("All faults of a body are told at once, each with its place", "Meilisearch", "problems", "faults", "strict")
def _(s):
    wrong = {"name": {"a": 1}, "scopes": {"a": 1}, "expiresAt": {"a": 1}, "metadata": "x", "enabled": "yes", "nope": 1}
    answer = s.refused("create_key", "invalid", body=wrong)
    equal({it for it, _ in s.adapter.faults(answer)}, {f"/{it}" for it in wrong})
    assert all(it["detail"] for it in answer.json["errors"])
    answer = s.refused("create_key", "invalid", body={})
    equal(s.adapter.faults(answer), {("/name", "required"), ("/scopes", "required")})


@check("No refusal repeats a key, not even one in a wrong place", "keys in logs and screenshots", "problems", "http")
def _(s):
    text = s.key()["key"]
    for body in ({"name": text, "scopes": [READ]}, {"name": "k", "scopes": [text]}, {text: 1, "name": "k"},
                 {"name": "k", "scopes": [READ], "metadata": {"a": text}},
                 {"name": "k", "scopes": [READ], "expiresAt": text}):
        answer = s.refused("create_key", "invalid", body=body)
        assert text not in answer.text, answer
    assert text not in s.refused("list_keys", "malformed", query={"q": text}).text


@check("Missing and wrong keys are refused with a challenge", "RFC 9110, 11.6.1", "problems", "http")
def _(s):
    request = s.request("list_keys", None)
    for sent in (None, "malformed", "Bearer", "Bearer ", "Basic YTpi", "Bearer x", "Bearer   invalid_key   "):
        answer = s.transmit(request if sent is None else request.plus(("Authorization", sent)))
        equal(answer.status, 401, str(sent))
        assert re.match(r"^[A-Za-z][A-Za-z-]*( |$)", answer.header("www-authenticate")), answer.headers


@check("A wrong key is told to be wrong, in a sentence that helps", "crates.io", "problems", "http")
def _(s):
    answer = s.refused("list_keys", "unauthenticated", "invalid_key", caller="cio_old_style_token")
    assert len(answer.json["detail"]) > 15, answer


@check("A method that an address does not have is refused with those that it has", "RFC 9110, 15.5.6", "http")
def _(s):
    made = s.key()
    for operation, method, allowed in (("list_keys", "PUT", {"GET", "HEAD", "POST"}), ("verify", "GET", {"POST"}),
                                       ("get_key", "POST", {"GET", "HEAD", "PUT", "PATCH", "DELETE"}),
                                       ("list_scopes", "DELETE", {"GET", "HEAD"}), ("live", "POST", {"GET", "HEAD"})):
        answer = s.transmit(s.request(operation, id=made["id"]).but(method=method, body=None))
        equal((answer.status, set(answer.header("allow").split(", "))), (405, allowed), operation)
    equal(s.code(made["key"]), "VALID")


@check("HEAD answers like GET, without the body", "RFC 9110, 9.3.2", "http", "etag")
def _(s):
    made = s.key()
    for operation in (*GET_OPERATIONS, "get_key"):
        request = s.request(operation, id=made["id"])
        get, head = s.transmit(request), s.transmit(request.but(method="HEAD"))
        equal((get.status, head.status, head.body), (200, 200, b""), operation)
        equal(head.header("content-type"), get.header("content-type"), operation)
    equal(head.header("etag"), get.header("etag"))


@check("A body that is not JSON by its media type is refused", "Meilisearch; CSRF", "http")
def _(s):
    create, made = s.request("create_key", body={}), s.key()
    for request in (create, s.request("patch_key", id=made["id"], body={})):
        for media_type in ("text/plain", "", None, "application/x-www-form-urlencoded",
                           "application/json; charset=latin1"):
            answer = s.transmit(with_text(request, b'{"name":"x"}', media_type))
            s.refusal(answer, "media_type", "unsupported_media_type")
    for media_type in ("application/json; charset=utf-8", "APPLICATION/JSON"):
        body = b'{"name":"x","scopes":["orders:read"]}'
        equal(s.transmit(with_text(create, body, media_type)).status, 201, media_type)


@check("A compressed body is refused", "a small body that becomes large", "http")
def _(s):
    request = s.request("create_key", body={}).plus(("Content-Encoding", "gzip"))
    s.refusal(s.transmit(request), "media_type")


@check("A body that is no strict JSON is refused, and the place is told", "Meilisearch, crates.io", "http", "reasons")
def _(s):
    create = s.request("create_key", body={})
    for text in (b"", b"{", b'{"name": ', b"nonsense", b"{'name':1}", b'{"name":"a",}', b'{"name":"a"} x', b"[1",
                 b'{"name":"a\xff\xfe","scopes":[]}', b'{"name":NaN}', b"\xef\xbb\xbf{}", b"[" * 100 + b"]" * 100,
                 b'{"name":"a","name":"b","scopes":["orders:read"]}'):
        answer = s.refusal(s.transmit(with_text(create, text)), "malformed", "invalid_json")
    answer = s.transmit(with_text(create, b'{"malformed": "x"'))
    assert re.search(r"line|column|end|EOF", answer.json["detail"], re.I), answer


@check("A body of another JSON type than an object is refused", "Meilisearch", "http")
def _(s):
    for text in (b"[]", b'"x"', b"7", b"null", b"true"):
        answer = s.transmit(with_text(s.request("create_key", body={}), text))
        assert answer.status in (400, 422), answer


@check("A body that is too large is refused", "memory; APISIX", "http")
def _(s):
    create = s.request("create_key", body={})
    s.refusal(s.transmit(with_text(create, b'{"name":"' + b"a" * 70000 + b'"}')), "too_large", "payload_too_large")
    chunk = b"10000\r\n" + b"a" * 0x10000 + b"\r\n"
    chunked = with_text(create, chunk * 2 + b"0\r\n\r\n").plus(("Transfer-Encoding", "chunked"))
    s.refusal(s.transmit(chunked), "too_large")


@check("Answers with secrets are not stored, and their type is not guessed", "RFC 9111; browsers", "http")
def _(s):
    made = s.key()
    answers = [s.send("create_key", body={"name": "k", "scopes": [READ]}), s.send("get_key", id=made["id"]),
               s.send("list_keys"), s.send("list_keys", None), s.send("verify", body={"key": made["key"]}),
               s.send("get_key", id=ABSENT), s.send("revoke_key", id=made["id"])]
    for answer in answers:
        equal((answer.header("cache-control"), answer.header("x-content-type-options")), ("no-store", "nosniff"))


@check("A success without a body has none, and no media type", "RFC 9110, 15.3.5", "http")
def _(s):
    answer = s.send("revoke_key", id=s.key()["id"])
    equal((answer.status, answer.body, answer.header("content-type")), (204, b"", None))


@check("No page of another origin reads an answer", "CORS", "http")
def _(s):
    answer = s.send("list_keys", headers=[("Origin", "https://evil.example")])
    equal((answer.status, [it for it, _ in answer.headers if it.lower().startswith("access-control-")]), (200, []))


@check("The server does not tell browsers to use https for its host", "other services on the host", "no_hsts")
def _(s):
    answers = [s.send("list_keys"), s.send("live", None), s.send("list_keys", None)]
    equal([it.status for it in answers], [200, 200, 401])
    equal([it.header("strict-transport-security") for it in answers], [None] * 3)


@check("Two values of a header of which there is one are refused", "request smuggling; Kong", "http")
def _(s):
    text = s.key()["key"]
    request = s.request("get_key", None, id="self")
    for headers in ([("X-API-Key", text)] * 2, [("Authorization", f"Bearer {text}")] * 2):
        s.refusal(s.transmit(request.plus(*headers)), "malformed", "duplicate_header")
    both = request.plus(("X-API-Key", text), ("Authorization", f"Bearer {s.root}"))
    s.refusal(s.transmit(both), "malformed", "conflicting_keys")
    same = request.plus(("X-API-Key", text), ("Authorization", f"Bearer {text}"))
    equal(s.transmit(same).status, 200)


@check("A caller presents its key in X-API-Key or as a bearer token, in any case", "Authelia", "http", "self")
def _(s):
    text = s.key()["key"]
    request = s.request("get_key", None, id="self")
    for header in (("x-api-KEY", text), *(("Authorization", f"{it} {text}") for it in ("Bearer", "bearer", "BeArEr"))):
        equal(s.transmit(request.plus(header)).status, 200, header[0])


@check("A key in the address or in the body opens nothing", "Gitea, Kong: keys in logs", "http")
def _(s):
    text = s.key("api-keys:read")["key"]
    for name in ("token", "access_token", "api_key", "apikey", "x"):
        answer = s.refused("list_keys", "unauthenticated", caller=None, query={name: text})
        assert text not in answer.text, answer
    s.refused("create_key", "unauthenticated", "missing_key", caller=None, body={"apikey": s.root, "name": "x"})


@check("A good key beside one in the address is refused, so that the leak is noticed", "keys in logs", "http")
def _(s):
    text = s.key()["key"]
    for operation in ("list_keys", "list_scopes", "live"):
        answer = s.transmit(s.request(operation).but(path=s.request(operation).path + f"?x={text}"))
        s.refusal(answer, "malformed", "key_in_query")
        assert text not in answer.text


@check("An address with a slash at its end is found or clearly not", "Kong", "http", "problems")
def _(s):
    request = s.request("list_keys")
    answer = s.transmit(request.but(path=request.path + "/"))
    assert answer.status in (200, 308, 404), answer
    assert answer.header("content-type") in ("application/json", "application/problem+json"), answer.headers


@check("Strange addresses are refused, and none is an error of the server", "fuzzing", "http")
def _(s):
    base = s.request("list_keys").path
    for path in (base + "/%00", base + "/%ff", base + "/../../etc/passwd", "//" + base, base + "/" + "a" * 3000,
                 base + "/..%2f..", "/%2e%2e/", base + "/'", base + "?" + "&".join(["limit=1"] * 50)):
        answer = s.transmit(s.request("list_keys").but(path=path))
        assert 400 <= answer.status < 500, f"{path}: {answer}"


@check("Requests that are no HTTP are refused, and none is an error of the server", "fuzzing", "http")
def _(s):
    for text in (b"GET /livez HTTP/1.1\r\n\r\n", b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"no\r\n\r\n",
                 b"GET /livez HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", b"GET /livez HTTP/9.9\r\nHost: a\r\n\r\n",
                 b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
                 b"POST /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
                 b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"):
        status = s.transmit_bytes(text)
        assert status == 0 or 400 <= status < 500, (text, status)
    equal(s.transmit_bytes(b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"), 200)


@check("The refusals have an order: caller, right, object, body", "the same answer to each client", "http", "privilege")
def _(s):
    weak, stale = s.key()["key"], [("If-Match", '"x"')]
    body = {"name": 7}
    s.refused("update_key", "unauthenticated", caller="nope", headers=stale, id=ABSENT, body=body)
    s.refused("update_key", "forbidden", caller=weak, headers=stale, id=ABSENT, body=body)
    s.refused("update_key", "not_found", headers=stale, id=ABSENT, body=body)
    s.refused("update_key", "changed", headers=stale, id=s.key()["id"], body=body)
    s.refused("update_key", "invalid", id=s.key()["id"], body=body)


@check("Whether the server lives and is ready is told without a key", "orchestrators; oauth2-proxy", "health")
def _(s):
    equal((s.send("live", None).status, s.send("ready", None).status), (200, 200))


@check("The metrics are readable, and hold no key and no name", "Prometheus", "health")
def _(s):
    made = s.key(name=s.unique("secret-name"))
    answer = s.send("metrics")
    equal(answer.status, 200)
    assert re.search(r"^# TYPE \S+ (counter|gauge|histogram)$", answer.text, re.M), answer
    assert made["name"] not in answer.text and made["id"] not in answer.text


@check("The API document names each operation of the suite", "clients that are generated", "health")
def _(s):
    document = s.ok("api_document", None)
    assert document["openapi"].startswith("3."), document["openapi"]
    for operation in ("create_key", "verify", "list_keys", "list_events", "create_account", "report_leak"):
        request = s.request(operation)
        assert request.method.lower() in document["paths"].get(request.path, {}), operation
