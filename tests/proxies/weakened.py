"""The protections of the shipped files. Each one that is taken out must be missed by a request.

A row is the proxy, the themes of the requests that must notice, and the edit: what is taken out, its text, and the text
in its place. Not listed are lines for which another line stands in, alone: Envoy's headers_with_underscores_action and
use_remote_address, Traefik's trustForwardHeader. Nor are lines that guard against a broken hook:
`tests/it/proxies/broken.rs` tries these.
"""
import re

from scene import PROXIES, SHIPPED

NAMES, CLAIMS, KEYS = ("identity, spelling", "identity, form"), ("claim",), ("honest",)
ALL = ("honest", "identity, spelling", "claim", "method", "host", "path, one mutation")


def lines(file, pattern):
    """Returns the lines of a shipped file that match, without comments."""
    text = (SHIPPED / file).read_text()
    found = [it for it in text.splitlines() if re.search(pattern, it) and not re.match(r"\s*(#|--)", it)]
    assert found, f"{file}: no line matches {pattern}"
    return found


def without(proxy, themes, file, pattern):
    """Returns an edit for each matching line, which takes the line out."""
    return [(proxy, themes, (it.strip(), f"{it}\n", "\n")) for it in lines(file, pattern)]


def claims_of(proxy, file):
    """Returns an edit for each name in the list of a script."""
    found = re.findall(r'\["([a-z-]+)"\] = true', (SHIPPED / file).read_text())
    assert found
    return [(proxy, CLAIMS, (f"the claim {it}", f'["{it}"] = true', f'["no-{it}"] = true')) for it in found]


NGINX = [
    *without("nginx", NAMES, "nginx/protect.inc", r"^proxy_set_header X-Keyward"),
    *without("nginx", CLAIMS, "nginx/protect.inc", r'^proxy_set_header (?!X-API).* "";$'),
    *without("nginx", CLAIMS, "nginx/protect.inc", r"^proxy_set_header X-Forwarded-For"),
    *without("nginx", KEYS, "nginx/protect.inc", r"^proxy_set_header X-API-Key"),
    *without("nginx", CLAIMS, "nginx/question.inc", r"^proxy_set_header X-Forwarded-For"),
    ("nginx", NAMES, ("underscores_in_headers off", "underscores_in_headers off", "underscores_in_headers on")),
    ("nginx", NAMES, ("ignore_invalid_headers on", "ignore_invalid_headers on", "ignore_invalid_headers off")),
    ("nginx", ALL, ("the unchanged path", "X-Original-URI $request_uri", "X-Original-URI $uri")),
    ("nginx", ALL, ("the method", "X-Original-Method $request_method", "X-Original-Method GET")),
    ("nginx", ALL, ("the host of the question", "proxy_set_header Host $host;", "proxy_set_header Host api.example.com;")),
]
CADDY = [
    *without("Caddy", NAMES, "caddy/Caddyfile.policy", r"request_header -\*keyward"),
    *without("Caddy", CLAIMS, "caddy/Caddyfile.policy", r"request_header -Forwarded"),
    *without("Caddy", CLAIMS, "caddy/Caddyfile.policy", r"import unclaimed"),
    *without("Caddy", KEYS, "caddy/Caddyfile.policy", r"request_header -X-API-Key"),
    *without("Caddy", CLAIMS, "caddy/Caddyfile.policy", r"request_header -\*\{args.0\}[-_.!]"),
    ("Caddy", ALL, ("the unchanged path", "X-Forwarded-Uri {uri}", "X-Forwarded-Uri {path}")),
    ("Caddy", ALL, ("the method", "X-Forwarded-Method {method}", "X-Forwarded-Method GET")),
]
HAPROXY = [
    ("HAProxy", NAMES, ("the removal of identities", 'plain:find("^x%-keyward%-") or', "")),
    ("HAProxy", NAMES, ("the other spellings", ':gsub("%W", "-")', "")),
    ("HAProxy", NAMES, ("the identity", "for _, name in ipairs(identity) do txn.http:req_set_header", "for _, name in ipairs({}) do txn.http:req_set_header")),
    *claims_of("HAProxy", "haproxy/keyward.lua"),
    *without("HAProxy", ("target",), "haproxy/keyward.lua", "req_set_uri"),
    *without("HAProxy", KEYS, "haproxy/keyward.lua", r'req_del_header\("x-api-key"\)'),
    ("HAProxy", ALL, ("the method", "txn.f:method()", '"GET"')),
    ("HAProxy", ("host",), ("the host", 'txn.f:req_hdr("host") or ""', '"api.example.com"')),
]
ENVOY = [
    ("Envoy", NAMES, ("the removal of identities", "contains: keyward, ignore_case: true", "exact: none")),
    *without("Envoy", CLAIMS, "envoy/policy.yaml", r"remove_on_match: .*safe_regex"),
    ("Envoy", KEYS, ("the removal of the key", "request_headers_to_remove: [x-api-key]", "request_headers_to_remove: [x-none]")),
]
TRAEFIK = [
    *[("Traefik", NAMES, (f"the names {it}", f'"{it}"', f'"{it}-None"')) for it in ["Key Id", "Key Name", "Account Id", "External Id"]],
    ("Traefik", NAMES, ("the names Scopes", "Scopes: \"\"", "None: \"\"")),
    ("Traefik", NAMES, ("the names Expires", "Expires{{ $d }}At", "None{{ $d }}At")),
    *[("Traefik", CLAIMS, (f"the claim {it}", f'"{it}"', f'"{it}-None"'))
      for it in ["Original Method", "Original URL", "Original URI", "Original Host", "Rewrite URL", "HTTP Method", "Method Override",
                 "Forwarded For", "Forwarded Host", "Forwarded Server", "Forwarded Method", "Forwarded Uri", "Forwarded Prefix", "Real IP"]],
    ("Traefik", CLAIMS, ("the claim HTTP Method Override", "Method{{ $c }}Override", "Method{{ $c }}None")),
    *without("Traefik", CLAIMS, "traefik/policy.yaml", r"^ *Forwarded: \"\""),
    ("Traefik", KEYS, ("the removal of the key", "X-API-Key: \"\"", "X-None: \"\"")),
]
APACHE = [
    ("Apache", NAMES, ("the removal of identities", 'plain:find("^x%-keyward%-") or', "")),
    ("Apache", NAMES, ("the other spellings", ':gsub("%W", "-")', "")),
    *claims_of("Apache", "apache/keyward.lua"),
    *without("Apache", KEYS, "apache/keyward.lua", r'r.headers_in\["X-API-Key"\] = nil'),
    ("Apache", ALL, ("the unchanged path", "r.unparsed_uri", "r.uri")),
    ("Apache", ALL, ("the method", '= r.method', '= "GET"')),
    ("Apache", ("host",), ("the host", '= r.headers_in["Host"] or ""', '= "api.example.com"')),
    ("Apache", CLAIMS, ("the address", '= r.useragent_ip', '= r.headers_in["X-Forwarded-For"]')),
]
EDITS = NGINX + CADDY + HAPROXY + ENVOY + TRAEFIK + APACHE


def missing():
    """Returns the edits that no shipped file has a place for."""
    texts = {proxy: "".join(it.read_text() for it in (SHIPPED / folder).iterdir()) for proxy, (_, _, folder, _) in PROXIES.items()}
    return [(proxy, what) for proxy, _, (what, old, _) in EDITS if old not in texts[proxy]]
