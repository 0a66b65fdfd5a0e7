"""Hostile requests, made by rule: paths, methods, hosts and header names, each in every spelling of its separators.

A case with the theme of its mutation alone is always sent. The combinations of several mutations are sampled, unless
all of them are asked for.
"""
import dataclasses
import itertools
import random

HOST = b"api.example.com"
IDENTITY = [b"X-Keyward-Key-Id", b"X-Keyward-Key-Name", b"X-Keyward-Account-Id", b"X-Keyward-External-Id",
            b"X-Keyward-Scopes", b"X-Keyward-Key-Expires-At"]
# The value of every header that a client forges.
FORGED = b"forged"

SLASHES = [b"/", b"//", b"///", b"%2f", b"%2F", b"\\", b"%5c", b"%5C", b"/\\", b"%252f", b"%252F", b"%25%32%66", b"%255c",
           b"%c0%af", b"\xc0\xaf", b"%e0%80%af", b"%c1%9c", b"%ef%bc%8f", b"\xef\xbc\x8f", b"%e2%88%95"]
PARTS = [b";", b";/", b"/;", b";x=y", b"/;x=y/", b"%3b", b"%3B", b"/%3b/", b"%253b", b"%00", b"%00/", b"/%00/", b"\0", b"%20",
         b"/%20/", b" ", b"\t", b"%09", b"/%09/", b"+", b"?", b"/?", b"%3f", b"%3F", b"%253f", b"#", b"/#", b"%23", b"%2523", b"%0a",
         b"%0d%0a", b"\n", b"\r", b"\r\n", b"/./", b"/%2e/", b"/.;/", b"/..;/", b"@", b":", b"%25", b"%", b"%zz", b"%2", b"%u002f",
         b"|", b"^", b"\"", b"<", b"{", b"`", b"~", b"%ff", b"\xff", b"\x80", b"%c2%85", b"%e2%80%8b", b"."]
DOTS = [b".", b"..", b"...", b"%2e", b"%2E", b"%2e%2e", b"%2E%2e", b".%2e", b"%2e.", b"%252e%252e", b"%25%32%65%25%32%65",
        b"%c0%ae%c0%ae", b"\xc0\xae\xc0\xae", b"%ef%bc%8e%ef%bc%8e", b"..;", b"..;x=y", b"..%3b", b"..%00", b"..%20", b"..%09",
        b".. ", b"..\t", b"..?", b"..#", b"..%23", b"..%3f", b"%2e%2e;", b".%00.", b".\\.", b"%e0%80%ae."]
# Ways to write one word of a path.
ENDS = [b"/", b"//", b"/.", b"/..", b".", b"..", b"%2e", b"%20", b"%20%20", b"%09", b" ", b"\t", b";", b";x=y", b"%3b", b"%3bx", b"?",
        b"?x", b"%3f", b"%3fx", b"#", b"#x", b"%23", b"%23x", b"+", b"%00", b"%00.png", b"\0", b"\\", b"%5c", b"%2f", b"%252f", b".json",
        b"%2ejson", b"::$DATA", b"~1", b"%c2%a0", b"%e3%80%82", b"%0a", b"%0d", b"%7f", b"\x7f", b"\xff", b"%ff", b"%", b"%2"]

# A protected word below a path that needs less, and a way that leads from one tree to another.
WORDS = [(b"/orders", b"admin"), (b"/products", b"hidden"), (b"/files", b"private"), (b"/open", b"closed")]
WAYS = [(b"/orders", b"admin"), (b"/public", b"orders"), (b"/health", b"admin"), (b"/files", b"products"), (b"/open", b"inventory")]

METHODS = [b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"PROPFIND", b"PURGE", b"M-SEARCH",
           b"QUERY", b"get", b"Get", b"gET", b"head", b"post", b"Post", b"delete", b"DELETe", b"put", b"pATCH", b"options", b"trace",
           b"connect", b"G", b"GETX", b"XGET", b"GET\t", b" GET", b"GE T", b"G\0ET", b"GET\0", b"G\xc9T", b"GET/", b"GET;", b"GET,POST",
           b"!GET", b"GET.", b"G_ET", b"", b"PRI", b"X" * 40, b"X" * 4000]

# Headers by which a proxy, or a client of it, could tell the API another method, path, host or address.
METHOD_HEADERS = [b"X-HTTP-Method-Override", b"X-HTTP-Method", b"X-Method-Override", b"X-Original-Method", b"X-Forwarded-Method"]
PATH_HEADERS = [b"X-Original-URL", b"X-Original-URI", b"X-Rewrite-URL", b"X-Forwarded-Uri", b"X-Forwarded-Prefix", b"Script-Name",
                b"X-Script-Name", b"Path-Info"]
HOST_HEADERS = [b"X-Forwarded-Host", b"X-Original-Host", b"Forwarded"]
SERVER_HEADERS = [b"X-Forwarded-Server"]
ADDRESS_HEADERS = [b"X-Forwarded-For", b"X-Real-IP", b"Forwarded"]
# Every character of a token (RFC 9110, 5.6.2) that is no letter and no digit, and some that no name may hold.
TOKEN = [bytes([it]) for it in b"-_.!#$%&'*+^`|~"]
ODD = [b" ", b"\t", b"\0", b"/", b"\x80", b"\xff", b"\xe2\x80\x90", b"\xc2\xad", b"", b"--", b"-_", b"\x0b", b"(", b",", b"=", b"\""]


@dataclasses.dataclass(frozen=True)
class Case:
    theme: str
    method: bytes = b"GET"
    target: bytes = b"/orders/7"
    version: bytes = b"HTTP/1.1"
    # Whole lines, sent as they are. None stands for the usual Host.
    lines: tuple = ()
    hosts: tuple = (b"Host: " + HOST,)
    body: bytes = b""
    # The name of the key that the client presents.
    key: str = "reader"

    def wire(self, number, keys):
        """Returns the bytes of the request. The mark lets the API's answer be found again."""
        lines = [b" ".join([self.method, self.target, self.version]), *self.hosts, b"X-Case: %d" % number]
        if keys[self.key]:
            lines.append(b"X-API-Key: " + keys[self.key])
        return b"\r\n".join([*lines, *self.lines, b"", b""]) + self.body

    def __str__(self):
        parts = [self.theme, f"key {self.key}", repr(b" ".join([self.method, self.target[:200]]))]
        if self.hosts != Case.hosts:
            parts.append(repr(self.hosts))
        return ", ".join(parts + [repr(it[:200]) for it in self.lines])


def spellings(name, alphabet=TOKEN[:3]):
    """Returns the name with each character of the alphabet in the place of each hyphen, in all ways."""
    words = name.split(b"-")
    for marks in itertools.product(alphabet, repeat=len(words) - 1):
        yield words[0] + b"".join(mark + word for mark, word in zip(marks, words[1:]))


def single_spellings(name):
    """Returns the name with one other character in the place of one hyphen, or of all, and with other letters."""
    words = name.split(b"-")
    for mark in TOKEN[1:] + ODD:
        yield mark.join(words)
        for at in range(1, len(words)):
            yield b"-".join(words[:at]) + mark + b"-".join(words[at:])
    yield from [name.lower(), name.upper(), name.swapcase(), b"HTTP-" + name, b"HTTP_" + name.replace(b"-", b"_").upper()]


def lines(name, value):
    """Returns the ways to write one header so that a lenient reader finds it. Each is a list of lines."""
    yield [name + b": " + value]
    for before in [b" ", b"\t", b"\0", b"\x0b", b"\xa0", b"\xc2\xa0", b"\xef\xbb\xbf", b":", b"-", b"_", b"\x7f", b"\"", b"\r", b"\n"]:
        yield [before + name + b": " + value]
    for after in [b" ", b"\t", b"\0", b"\x0b", b"\xa0", b"-", b"_", b".", b"\x7f", b"\"", b"\r", b"\n"]:
        yield [name + after + b": " + value]
    for between in [b":", b":\t", b": \0", b":  ", b":\r\n ", b":\r\n\t", b":\n ", b" :\r\n ", b"="]:
        yield [name + between + value]
    for value_and_more in [b"", b" ", value + b"\0", value + b"\x7f", value + b"\xff", value + b" ", value + b",", value + b", x", b"-"]:
        yield [name + b": " + value_and_more]
    forged = name + b": " + value
    for text in [b"X: y\r " + forged, b"X: y\r" + forged, b"X: y\n" + forged, b"X: y\0\r\n" + forged, b"X: y\r\n " + forged,
                 b"X: y\r\n\t" + forged, b"X: y\n\r" + forged, b"X: y\r\r\n" + forged, b"X y\r\n" + forged, b": x\r\n" + forged]:
        yield [text]
    yield [forged, forged]
    yield [forged, name + b":"]
    yield [name + b":", forged]
    yield [name.lower() + b": a", name.replace(b"-", b"_") + b": " + value]
    yield [name.replace(b"-", b"_") + b": " + value, forged]
    yield [b"Connection: " + name, forged]
    yield [b"Connection: close, " + name.lower()]
    yield [b"Connection: " + name.replace(b"-", b"_"), name.replace(b"-", b"_") + b": " + value]


class Corpus:
    """The cases. `everything` leaves none out."""

    def __init__(self, everything, seed):
        self.everything, self.random = everything, random.Random(seed)

    def sample(self, cases, count):
        """Returns a part of the cases, in their order."""
        cases = list(cases)
        if self.everything or len(cases) <= count:
            return cases
        return [cases[at] for at in sorted(self.random.sample(range(len(cases)), count))]

    def cases(self):
        """Returns all cases, each once."""
        made = [self.honest(), self.paths(), self.forms(), self.methods(), self.hosts(), self.identities(), self.claims()]
        return list(dict.fromkeys(itertools.chain.from_iterable(made)))

    @staticmethod
    def honest():
        for path in [b"/orders", b"/orders/7", b"/orders/", b"/products/caf%C3%A9", b"/files/a%20b+c", b"/open/50%25", b"/health",
                     b"/public/x?y=/../z", b"/inventory", b"/files/x~y", b"/orders/%E2%82%AC", b"/products/a:b@c!$&'()*,="]:
            for key in ["reader", "writer", "none"]:
                for method in [b"GET", b"POST"]:
                    yield Case("honest", method, path, key=key)

    def paths(self):
        singles, pairs = [], []
        for base, word in WORDS:
            spelled = [word, word.upper(), word.title(), word[:-1] + word[-1:].upper(), b"%%%02x" % word[0] + word[1:],
                       b"%%%02X" % word[0] + word[1:], b"%%25%02x" % word[0] + word[1:], b"".join(b"%%%02x" % it for it in word),
                       b"%%%02x" % (word[0] - 32) + word[1:], word.replace(b"i", b"%c4%b1"), word.replace(b"d", b"%EF%BD%84")]
            for mark in [*SLASHES, *PARTS]:
                singles += [base + mark + word, mark.join([base, word, b"x"]), base + b"/" + word + mark, base + b"/" + mark + word,
                            mark + base[1:] + b"/" + word, base + b"/" + word + mark + b"x"]
            singles += [base + b"/" + word + end for end in ENDS]
            singles += [base + b"/" + it for it in spelled] + [base.upper() + b"/" + word, b"/%%%02x" % base[1] + base[2:] + b"/" + word]
            pairs += [base + mark + it + end for mark in SLASHES for it in spelled for end in [b"", *ENDS]]
        for base, aim in WAYS:
            for dots in DOTS:
                singles += [base + b"/" + dots + b"/" + aim, base + b"/x/" + dots + b"/" + dots + b"/" + aim, base + b"/" + dots,
                            b"/" + dots + base + b"/" + dots + b"/" + aim]
                for mark in [*SLASHES, *PARTS]:
                    pairs += [mark.join([base, dots, aim]), base + b"/" + dots + mark + aim, base + mark + dots + b"/" + aim,
                              mark.join([base, b"x", dots, dots, aim])]
        every_byte = [bytes([it]) for it in range(256)] + [b"%%%02x" % it for it in range(256)]
        bytes_ = [form % it for it in every_byte for form in [b"/orders%sadmin", b"/orders/admin%s", b"/files/%sprivate"]]
        for theme, targets, count in [("path, one mutation", singles, len(singles)), ("path, each byte", bytes_, len(bytes_)),
                                      ("path, combined", pairs, 500)]:
            targets = dict.fromkeys(targets)
            # A key without the scope of the word: if it passes, the API must have read something else.
            yield from self.sample((Case(theme, target=it) for it in targets), count)
        # With other keys a part is enough, also where all are wanted: the paths are the same.
        targets = list(dict.fromkeys(singles + pairs))
        targets = [self.random.sample(targets, 5_000 if self.everything else 150) for _ in range(2)]
        yield from (Case("path, no key", target=it, key="none") for it in targets[0])
        yield from (Case("path, changes", b"POST", it, key="writer") for it in targets[1])

    def forms(self):
        """The other forms of a target (RFC 9112, 3.2), and very long ones."""
        paths = [b"/orders/7", b"/health", b"/orders/admin", b"/public/../admin", b"", b"?x", b"/", b"#x"]
        starts = [b"http://", b"HTTP://", b"https://", b"http:/", b"http:", b"http:///", b"//", b"ftp://", b"file://", b"ws://", b"http:\\\\"]
        names = [HOST, b"other.example.com", b"admin.example.com", b"ADMIN.example.com.", b"user@api.example.com", b"127.0.0.1:3000",
                 b"api.example.com:80", b"api.example.com\\admin.example.com", b"admin.example.com#" + HOST, b"[::1]", b"a b", b""]
        absolute = [start + name + path for start in starts for name in names for path in paths]
        for key in ["reader", "none"]:
            yield from self.sample((Case("target, absolute form", target=it, key=key) for it in absolute), 150)
        for method in [b"GET", b"OPTIONS", b"CONNECT"]:
            for target in [b"*", b"/*", b"api.example.com:80", b"127.0.0.1:3000", b"", b"orders", b"?", b"#", b".", b"..", b"%2forders",
                           b"\\orders", b" /orders", b"/orders /admin", b"/orders HTTP/1.1 /admin", b"/health\tHTTP/1.1", b"x:/orders"]:
                yield Case("target, other forms", method, target)
        for path, length in itertools.product([b"/orders/", b"/public/", b"/orders/../"], [1000, 4000, 7000, 8100, 9000, 17000, 40000, 70000]):
            yield Case("target, long", target=path + b"a" * length)
            yield Case("target, long", target=path + b"?" + b"a" * length + b"/../admin")
            yield Case("target, long", target=path + b"a/../" * (length // 5) + b"admin")
        for version in [b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2", b"http/1.1", b"HTTP/1.1 ", b"HTTP/01.1", b"HTTP/1.10", b""]:
            for target in [b"/orders/7", b"/orders/admin", b"/public/x"]:
                yield Case("target, version", target=target, version=version)

    def methods(self):
        for method in METHODS:
            for target in [b"/orders/7", b"/public/x", b"/open/x", b"/reports/7", b"/health"]:
                for key in ["reader", "writer", "none"]:
                    yield Case("method", method, target, key=key)

    def hosts(self):
        names = [HOST, b"admin.example.com", b"ADMIN.EXAMPLE.COM", b"admin.example.com.", b"admin.example.com:80", b"admin.example.com:x",
                 b"x.admin.example.com", b"admin.example.com@" + HOST, HOST + b"@admin.example.com", HOST + b",admin.example.com",
                 HOST + b" admin.example.com", b"admin.example.com " + HOST, b"admin.example.com/", b"admin.example.com#", b"admin.example.com?",
                 b"admin%2eexample.com", b"admin\xe3\x80\x82example.com", b"admin.example.com\0." + HOST, b"", b" ", b".", b"..", b"-",
                 b"127.0.0.1", b"[::1]", b"[", b"localhost", b"API.example.com", HOST + b".", HOST + b":80", HOST + b":", HOST + b":99999",
                 b"a" * 300 + b".example.com", b"\xff", b"admin.example.com\t", b"\tadmin.example.com", b"admin.example.com;" + HOST]
        lists = [(), *((b"Host: " + it,) for it in names), *((b"Host:" + it,) for it in names[:3])]
        lists += [(b"Host: " + a, b"Host: " + b) for a, b in itertools.permutations(names[:2] + [b""], 2)] + [(b"Host: " + HOST,) * 2]
        for name in [b"host", b"HOST", b"Host ", b" Host", b"Host\t", b"H_ost", b"Host\0", b":authority", b"Hos\xc5\xa3"]:
            lists += [(name + b": admin.example.com",), (b"Host: " + HOST, name + b": admin.example.com"),
                      (name + b": admin.example.com", b"Host: " + HOST)]
        lists += [(b"Host:\r\n admin.example.com",), (b"Host: " + HOST + b"\r\n admin.example.com",)]
        for hosts, target in itertools.product(dict.fromkeys(lists), [b"/orders/7", b"/public/x"]):
            yield Case("host", target=target, hosts=hosts)
            yield Case("host", target=target, hosts=hosts, version=b"HTTP/1.0")

    def identities(self):
        """Headers with which a client claims an identity."""
        made = []
        for name in IDENTITY:
            made += [[it + b": " + FORGED] for it in spellings(name)] + [[it + b": " + FORGED] for it in single_spellings(name)]
        # As many characters as there are, in all ways.
        more = [[it + b": " + FORGED] for name in IDENTITY[:2] for it in spellings(name, TOKEN)]
        odd = [list(it) for name in IDENTITY for it in lines(name, FORGED)]
        for theme, lists, count in [("identity, spelling", made, len(made)), ("identity, all characters", more, 200),
                                    ("identity, form", odd, len(odd))]:
            yield from self.sample((Case(theme, lines=tuple(it)) for it in lists), count)
        public = made + odd
        yield from self.sample((Case("identity, public", target=b"/public/x", key="none", lines=tuple(it)) for it in public), 250)
        yield from self.sample((Case("identity, no key", key="none", lines=tuple(it)) for it in public), 100)
        for name in IDENTITY:
            for trailer in [name, name.replace(b"-", b"_")]:
                yield Case("identity, trailer", b"POST", key="writer", lines=(b"Transfer-Encoding: chunked", b"Trailer: " + trailer),
                           body=b"1\r\nx\r\n0\r\n" + trailer + b": " + FORGED + b"\r\n\r\n")

    def claims(self):
        """Headers with which a client claims another method, path, host or address for its request."""
        asked = [
            (METHOD_HEADERS, [b"GET", b"DELETE"], [(b"GET", "reader"), (b"POST", "writer"), (b"POST", "reader")]),
            (PATH_HEADERS, [b"/public/x", b"/orders/admin"], [(b"GET", "reader"), (b"GET", "none")]),
            (HOST_HEADERS + SERVER_HEADERS, [b"admin.example.com", b"host=admin.example.com"], [(b"GET", "reader")]),
            (ADDRESS_HEADERS, [b"203.0.113.7", b"for=203.0.113.7", b"127.0.0.1"], [(b"GET", "reader"), (b"GET", "elsewhere")]),
        ]
        plain, formed = [], []
        for names, values, requests in asked:
            for name, value, (method, key) in itertools.product(names, values, requests):
                if (b"=" in value) != (name == b"Forwarded"):
                    continue
                make = lambda found: Case("claim", method, b"/orders/7", lines=tuple(found), key=key)  # noqa: E731
                plain += [make([it + b": " + value]) for it in spellings(name, TOKEN[:3])]
                plain += [make([it + b": " + value]) for it in [name.lower(), name.upper()]]
                formed += [make(it) for it in lines(name, value)]
                formed += [make([it + b": " + value]) for it in single_spellings(name)]
        yield from self.sample(plain, 700)
        yield from self.sample(formed, 500)
