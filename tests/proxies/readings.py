"""The ways in which an API could read a request that a proxy has passed on."""
import functools
import re

from corpus import ADDRESS_HEADERS, HOST_HEADERS, IDENTITY, METHOD_HEADERS, PATH_HEADERS, SERVER_HEADERS


def folded(name):
    """Returns the name of a header as a CGI program sees it (RFC 3875, 4.1.18), or a more lenient one."""
    return re.sub(rb"[^A-Z0-9]", b"_", name.upper())


METHOD_NAMES, PATH_NAMES, HOST_NAMES = ({folded(it) for it in names} for names in [METHOD_HEADERS, PATH_HEADERS, HOST_HEADERS])
ADDRESS_NAMES, IDENTITY_NAMES = ({folded(it) for it in names} for names in [ADDRESS_HEADERS + SERVER_HEADERS, IDENTITY])


class Seen:
    """A request as the API got it."""

    def __init__(self, head, plain_names=False):
        """With `plain_names`, headers count only if no character but `-`, `_` and `.` separates their words."""
        self.head = head
        # The most lenient reader: a line ends at each of these, and white space around it does not count.
        found = re.split(rb"\r\n|\n|\r|\0", head)
        first = found[0].split(b" ")
        self.method, self.target = first[0], b" ".join(first[1:-1])
        pairs = [it.partition(b":") for it in found[1:] if it]
        self.headers = [(name.strip(), value.strip()) for name, _, value in pairs]
        if plain_names:
            self.headers = [it for it in self.headers if re.fullmatch(rb"[A-Za-z0-9._-]+", it[0])]

    def named(self, names):
        return [value for name, value in self.headers if folded(name) in names]

    def identity(self):
        return sorted((name.lower(), value) for name, value in self.headers if folded(name) in IDENTITY_NAMES)

    def claimed_addresses(self):
        """Returns the addresses and names of servers that only the client can have sent."""
        values = self.named(ADDRESS_NAMES)
        return [it for it in values if b"203.0.113.7" in it or b"admin.example.com" in it]

    def readings(self):
        """Returns (method, host, path) for each way to read it."""
        methods = {self.method, self.method.upper()} | set(self.named(METHOD_NAMES))
        hosts = self.named({b"HOST"} | HOST_NAMES) or [b""]
        hosts = {re.sub(rb".*host=\"?([^;\"]*).*", rb"\1", it, flags=re.I | re.S) for it in hosts}
        targets = [self.target, *self.named(PATH_NAMES)]
        absolute = re.match(rb"[a-z][a-z0-9+.-]*://([^/?#]*)", self.target, re.I)
        if absolute:
            hosts.add(absolute[1])
            targets[0] = self.target[absolute.end():] or b"/"
        paths = {path for it in targets for path in paths_of(it)}
        return {(method, host, path) for method in methods for host in hosts for path in paths}


def decode(path):
    return re.sub(rb"%([0-9A-Fa-f]{2})", lambda it: bytes([int(it[1], 16)]), path)


def decode_overlong(path):
    """Decodes two- and three-byte forms of ASCII characters, as a decoder does that does not check."""
    path = re.sub(rb"[\xc0\xc1][\x80-\xbf]", lambda it: bytes([(it[0][0] & 1) << 6 | it[0][1] & 63]), path)
    return re.sub(rb"\xe0[\x80\x81][\x80-\xbf]", lambda it: bytes([(it[0][1] & 1) << 6 | it[0][2] & 63]), path)


def remove_dots(path):
    """Removes dot segments (RFC 3986, 5.2.4)."""
    kept = []
    pieces = path.split(b"/")
    for at, piece in enumerate(pieces):
        last = at == len(pieces) - 1
        if piece == b".." and 1 < len(kept):
            kept.pop()
        if piece not in (b".", b".."):
            kept.append(piece)
        elif last:
            kept.append(b"")
    return b"/".join(kept)


def fold_case(path):
    return path.decode("utf-8", "surrogateescape").casefold().encode("utf-8", "surrogateescape")


READERS = [
    decode, decode_overlong, remove_dots, fold_case,
    lambda it: re.sub(rb"/+", b"/", it),
    lambda it: re.sub(rb";[^/]*", b"", it),
    lambda it: it.replace(b"\\", b"/"),
    # The ends of a segment that a file system ignores, and characters that a reader of C or of a URL stops at.
    lambda it: re.sub(rb"(?<=[^/ ]) +(?=/|$)", b"", it),
    lambda it: re.sub(rb"(?<=[^/. ])\.+(?=/|$)", b"", it),
    lambda it: it.partition(b"\0")[0],
    lambda it: it.partition(b"?")[0],
    lambda it: it.partition(b"#")[0],
    lambda it: re.sub(rb"[\t\r\n]", b"", it),
]


@functools.lru_cache(10_000)
def paths_of(target):
    """Returns the paths that a target has, whichever readers come one after the other."""
    found, open_ends = set(), [target.partition(b"?")[0]]
    while open_ends:
        path = open_ends.pop()
        if path in found:
            continue
        found.add(path)
        assert len(found) < 5000, f"too many readings: {target[:200]}"
        open_ends += [it for reader in READERS if (it := reader(path)) not in found]
    return frozenset(found)
