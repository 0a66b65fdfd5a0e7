# A sample API that django_keyward.py protects.
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path
from django.views.decorators.http import require_http_methods

from django_keyward import keyward

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], LOGGING_CONFIG=None)


def show(request):
    caller = request.keyward
    return JsonResponse({"account": caller["accountId"], "key": caller["keyId"], "scopes": caller["scopes"]})


@require_http_methods(["GET", "POST"])
def orders(request):
    return keyward("orders:write" if request.method == "POST" else "orders:read")(show)(request)


urlpatterns = [path("orders", orders), path("whoami", keyward()(show))]
app = get_wsgi_application()
