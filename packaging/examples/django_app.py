# Django: lets keyward verify the API key of each request. Needs urllib3 2, and Python 3.11 or later.
# Decorate a view with @keyward("orders:read"); request.keyward then names the key.
# KEYWARD_URL is the address of keyward. KEYWARD_KEY_FILE holds your service's own key, with the scope
# api-keys:verify; it is read for each request. The rules are in docs/integrate.md.
import functools, http, logging, math, os, pathlib, re, time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
import urllib3
from django.http import JsonResponse

STATUS = {**dict.fromkeys(["MALFORMED", "NOT_FOUND", "REVOKED", "ROTATED", "ACCOUNT_SUSPENDED", "DISABLED",
    "EXPIRED"], 401), "INSUFFICIENT_SCOPES": 403, "IP_NOT_ALLOWED": 403, "RATE_LIMITED": 429}
URL = os.environ.get("KEYWARD_URL", "http://127.0.0.1:8080") + "/api/v1/api-keys/verify"
# The time-out of urllib3 is for each read. Only waiting for another thread limits the whole question.
threads = ThreadPoolExecutor(16)
pool = urllib3.PoolManager(maxsize=16) # Keeps connections to keyward open.
KEY_FILE = pathlib.Path(os.environ["KEYWARD_KEY_FILE"])

class Unexpected(Exception): pass

def verify(question):
    own = {"X-API-Key": KEY_FILE.read_text().strip()}
    ask = lambda: pool.request("POST", URL, json=question, headers=own, timeout=2, retries=False)
    try: answer = ask() # Only a connection that was closed is tried once more. No redirection is followed.
    except urllib3.exceptions.ProtocolError: answer = ask()
    if answer.status != 200: raise Unexpected(f"status {answer.status}")
    return answer.json()

def refuse(status, code, headers={}, **members):
    problem = {"type": "about:blank", "title": http.HTTPStatus(status).phrase, "status": status, "code": code}
    return JsonResponse(problem | members, status=status, headers=headers, content_type="application/problem+json")

def keyward(*scopes):
    def protect(view):
        @functools.wraps(view)
        def protected(request, *args, **kwargs):
            challenge = {"WWW-Authenticate": 'ApiKey realm="api", header="X-API-Key"'}
            bearer = re.match("(?i)bearer +(.+)", request.headers.get("Authorization", ""))
            key = request.headers.get("X-API-Key", bearer and bearer[1])
            if not key: return refuse(401, "MISSING_KEY", challenge)
            if bearer and bearer[1] != key: return refuse(400, "CONFLICTING_KEYS")
            question = {"key": key, "scopes": scopes}
            if address := request.META.get("REMOTE_ADDR"): question["clientIp"] = address.partition("%")[0]
            answer = threads.submit(verify, question)
            try:
                found = answer.result(timeout=2)
                code, status = found["code"], STATUS.get(found["code"])
                if status == 401: return refuse(401, code, challenge)
                if status == 403: return refuse(403, code, missingScopes=found["missingScopes"])
                if status == 429:
                    reset = datetime.fromisoformat(found["rateLimit"]["resetAt"]).timestamp()
                    return refuse(429, code, {"Retry-After": str(max(1, math.ceil(reset - time.time())))})
                if found["valid"] is not True or code != "VALID": raise Unexpected("unknown answer")
            except Exception as error: # Log no text of an answer: it could hold a key.
                answer.cancel()
                reason = error if isinstance(error, Unexpected) else type(error).__name__
                logging.getLogger("keyward").error("keyward cannot verify: %s", reason)
                return refuse(503, "UNAVAILABLE", {"Retry-After": "5"})
            request.keyward = found # accountId, externalId, keyId, scopes and the other members of the answer
            return view(request, *args, **kwargs)
        return protected
    return protect

# ---- End of the middleware. Below is a sample API. ----

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.urls import path
from django.views.decorators.http import require_http_methods

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], LOGGING_CONFIG=None)

def show(request):
    caller = request.keyward
    return JsonResponse({"account": caller["accountId"], "key": caller["keyId"], "scopes": caller["scopes"]})

@require_http_methods(["GET", "POST"])
def orders(request):
    return keyward("orders:write" if request.method == "POST" else "orders:read")(show)(request)

urlpatterns = [path("orders", orders), path("whoami", keyward()(show))]
app = get_wsgi_application()
