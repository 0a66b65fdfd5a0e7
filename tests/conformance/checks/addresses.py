"""Address lists: from where a key is accepted."""
from suite.check import equal, theme
from suite.session import OTHER, READ, WRITE

check = theme("Addresses")
HERE, AWAY = "203.0.113.7", "198.51.100.1"


def listed(s, *networks, scopes=(READ,), **settings):
    return s.key(*scopes, allowedIps=list(networks), **settings)


def seen_from(address):
    return [("X-Forwarded-For", address)]


@check("A key is accepted from the networks of its list, and from no other", "Unkey", "address_lists")
def _(s):
    text = listed(s, "203.0.113.0/24", "2001:db8::/32")["key"]
    for address in (HERE, "203.0.113.0", "203.0.113.255", "2001:db8::1", "::ffff:203.0.113.7"):
        equal(s.code(text, clientIp=address), "VALID", address)
    for address in (AWAY, "203.0.114.0", "203.0.112.255", "2001:db9::1", "::1", "::ffff:198.51.100.1"):
        equal(s.code(text, clientIp=address), "IP_NOT_ALLOWED", address)


@check("A single address is a network of one", "Unkey", "address_lists")
def _(s):
    made = listed(s, HERE, "2001:db8::1")
    equal(made["allowedIps"], [f"{HERE}/32", "2001:db8::1/128"])
    codes = [s.code(made["key"], clientIp=it) for it in (HERE, "203.0.113.8", "2001:db8::1", "2001:db8::2")]
    equal(codes, ["VALID", "IP_NOT_ALLOWED"] * 2)


@check("A key with a list is refused if the address is unknown", "fail closed", "address_lists")
def _(s):
    equal(s.code(listed(s, "0.0.0.0/0", "::/0")["key"]), "IP_NOT_ALLOWED")


@check("A key without a list is accepted from each address", "the rule without an exception", "address_lists")
def _(s):
    made = s.key()
    equal(made["allowedIps"], None)
    equal([s.code(made["key"], clientIp=it) for it in (HERE, AWAY, "::1")], ["VALID"] * 3)


@check("Only IPv4 networks contain IPv4 addresses", "two spellings of one address", "address_lists")
def _(s):
    text = listed(s, "::/0")["key"]
    codes = [s.code(text, clientIp=it) for it in (HERE, f"::ffff:{HERE}", "2001:db8::1")]
    equal(codes, ["IP_NOT_ALLOWED", "IP_NOT_ALLOWED", "VALID"])


@check("A list that cannot be is refused", "a typo that opens or closes a key", "address_lists", "update")
def _(s):
    made = s.key()
    for wrong in ([], ["nonsense"], ["203.0.113.0/33"], ["203.0.113.256"], "203.0.113.0/24", [7], ["::/129"],
                  [f"10.0.{n}.0/24" for n in range(51)]):
        s.refused("create_key", "invalid", body={"name": "k", "scopes": [READ], "allowedIps": wrong})
        s.refused("update_key", "invalid", id=made["id"], body={"allowedIps": wrong})


@check("An address of a client that is none is an error of the question", "a gateway with a fault", "address_lists")
def _(s):
    text = listed(s, HERE)["key"]
    for wrong in ("", "localhost", "203.0.113.7/32", "10000.1.1.1", f"{HERE}:80", 7):
        s.refused("verify", "invalid", body={"key": text, "clientIp": wrong})


@check("A list can be changed and removed", "Unkey", "address_lists", "update")
def _(s):
    made = listed(s, HERE)
    s.update(made, allowedIps=[AWAY])
    equal([s.code(made["key"], clientIp=it) for it in (HERE, AWAY)], ["IP_NOT_ALLOWED", "VALID"])
    equal(s.update(made, allowedIps=None)["allowedIps"], None)
    equal(s.code(made["key"], clientIp=HERE), "VALID")


@check("The expiry counts before the address, and the address before the scopes", "stable verdicts", "address_lists",
       "disable")
def _(s):
    made = listed(s, HERE)
    equal(s.code(made["key"], clientIp=AWAY, scopes=[WRITE]), "IP_NOT_ALLOWED")
    s.update(made, enabled=False)
    equal(s.code(made["key"], clientIp=AWAY), "DISABLED")


@check("The key server's own API refuses a key from elsewhere", "a stolen key", "address_lists", "client_address",
       "self")
def _(s):
    made = listed(s, HERE)
    s.ok("get_key", made["key"], seen_from(HERE), id="self")
    for address in (AWAY, f"{HERE}, {AWAY}", "unknown"):
        s.refused("get_key", "forbidden", "ip_not_allowed", caller=made["key"], headers=seen_from(address), id="self")


@check("A proxy is told that the address is not allowed", "a stolen key", "address_lists", "client_address",
       "forward_auth")
def _(s):
    text = listed(s, HERE)["key"]
    equal(s.send("ask", text, seen_from(HERE), scopes=[READ]).status, 200)
    s.refused("ask", "forbidden", "ip_not_allowed", caller=text, headers=seen_from(AWAY), scopes=[READ])


@check("A caller with a list gives no wider one", "a stolen key that frees itself", "address_lists", "client_address",
       "privilege")
def _(s):
    caller = listed(s, "203.0.113.0/24", scopes=(READ, OTHER, "api-keys:write"))["key"]
    here = seen_from(HERE)
    for wide in (None, ["203.0.0.0/16"], [AWAY]):
        s.refused("create_key", "invalid", fault=("/allowedIps", "outside_caller_addresses"), caller=caller,
                  headers=here, body={"name": "k", "scopes": [READ], "allowedIps": wide})
    body = {"name": "k", "scopes": [READ]}
    equal(s.ok("create_key", caller, here, body=body)["allowedIps"], ["203.0.113.0/24"])
    equal(s.ok("create_key", caller, here, body=body | {"allowedIps": [HERE]})["allowedIps"], [f"{HERE}/32"])
    s.refused("update_key", "invalid", caller=caller, headers=here, id="self", body={"allowedIps": None})
    free = s.key()
    for operation, body in (("rotate_key", None), ("update_key", {"scopes": [READ, OTHER]})):
        s.refused(operation, "invalid", caller=caller, headers=here, id=free["id"], body=body)


@check("A rotation keeps the list", "a way around the list", "address_lists", "rotation")
def _(s):
    new = s.rotate(listed(s, HERE))
    equal([s.code(new["key"], clientIp=it) for it in (HERE, AWAY)], ["VALID", "IP_NOT_ALLOWED"])


@check("The address of a client is what the last trusted proxy wrote", "forged X-Forwarded-For", "client_address",
       "events", "update")
def _(s):
    for sent, found in (("192.168.10.50, 10.0.0.1, 1.2.3.4", "1.2.3.4"), ("[2001:db8::7]:1234", "2001:db8::7"),
                        ("203.0.113.9:1234", "203.0.113.9"), ("2001:db8::8", "2001:db8::8"),
                        ("1.2.3.4, 127.0.0.1", "1.2.3.4")):
        made = s.key()
        s.update(made, headers=seen_from(sent), name="other")
        equal(s.events(subject=made["id"], type="api_key.updated")[0]["clientIp"], found, sent)


@check("A forwarded address that cannot be read never breaks a request, and is no address", "oauth2-proxy",
       "client_address", "events", "update")
def _(s):
    for header in (("X-Forwarded-For", "adsfljk29242as!!"), ("X-Forwarded-For", "10000.1.1.1"),
                   ("X-Forwarded-For", ""), ("X-Forwarded-For", "1.2.3.4, unknown"), ("X-Real-IP", "9.9.9.9")):
        made = s.key()
        s.update(made, headers=[header], name="other")
        found = s.events(subject=made["id"], type="api_key.updated")[0]["clientIp"]
        assert found in ("127.0.0.1", None), (header, found)
