-- Forward auth with keyward for HAProxy 2.6 and later. `http-request lua.keyward SCOPE` asks keyward for one
-- scope. With `http-request lua.keyward -`, keyward's route policy decides. KEYWARD_AUTHZ_URL says where
-- keyward listens (`setenv` in the global section, before lua-load).
--
-- If keyward allows the request, the script passes it on, with the identity in X-Keyward-* and without the
-- key. Otherwise the script answers with keyward's refusal. If a step fails, it answers 503.
--
-- HAProxy passes a request on when a script raises an error or exceeds its time. Therefore the script sets
-- the variable `txn.keyward` when a request may pass, and the configuration must require it:
--     http-request deny deny_status 503 unless { var(txn.keyward) -m str passed }

local url = os.getenv("KEYWARD_AUTHZ_URL") or "http://127.0.0.1:8080/authz/forward"
local timeout_ms = 2000

-- The request headers that keyward reads, besides those that ask() sets.
local asked = { "x-api-key", "authorization", "x-request-id", "traceparent", "origin",
                "access-control-request-method" }
-- The headers of an answer that the API reads.
local identity = { "x-keyward-key-id", "x-keyward-key-name", "x-keyward-account-id",
                   "x-keyward-external-id", "x-keyward-scopes", "x-keyward-key-expires-at" }
-- The headers in which a client claims another method, path, host or address, which some frameworks believe.
-- keyward judges those that HAProxy got.
local claims = {
  ["forwarded"] = true, ["x-forwarded-for"] = true, ["x-forwarded-host"] = true, ["x-forwarded-server"] = true,
  ["x-forwarded-method"] = true, ["x-forwarded-uri"] = true, ["x-forwarded-prefix"] = true,
  ["x-original-method"] = true, ["x-original-url"] = true, ["x-original-uri"] = true, ["x-original-host"] = true,
  ["x-rewrite-url"] = true, ["x-http-method"] = true, ["x-http-method-override"] = true,
  ["x-method-override"] = true, ["x-real-ip"] = true, ["script-name"] = true, ["x-script-name"] = true,
  ["path-info"] = true,
}
-- The headers of a refusal that the client reads.
local shown = { "content-type", "www-authenticate", "retry-after", "ratelimit", "ratelimit-policy",
                "x-request-id", "x-keyward-reason", "cache-control" }

-- Returns all values of a header. HAProxy counts them from 0.
local function values(headers, name)
  local found = {}
  for _, value in pairs(headers[name] or {}) do found[#found + 1] = value end
  return found
end

-- Returns whether one of the values is a bearer token with the shape of a keyward key.
local function holds_key(authorizations)
  for _, value in ipairs(authorizations) do
    local token = value:match("^%s*[Bb][Ee][Aa][Rr][Ee][Rr]%s+(%w+_%w+)%s*$")
    if token and #token == 50 and token:find("^%l[%l%d]?[%l%d]?[%l%d]?_") then return true end
  end
  return false
end

local function ask(txn, request, scope)
  local question = {}
  for _, name in ipairs(asked) do
    -- Send all values: keyward refuses a header that comes twice.
    local sent = values(request, name)
    if #sent > 0 then question[name] = sent end
  end
  question["x-forwarded-method"] = { txn.f:method() }
  question["x-forwarded-uri"] = { txn.f:pathq() }
  question["x-forwarded-host"] = { txn.f:req_hdr("host") or "" }
  question["x-forwarded-for"] = { txn.f:src() }
  local target = url
  if scope ~= "-" then target = target .. "?scope=" .. scope end
  return core.httpclient():get({ url = target, headers = question, timeout = timeout_ms })
end

-- Removes the client's own identity headers and claims, in every spelling, and the key. Then sets the identity
-- headers from keyward's answer.
local function pass(txn, request, answer)
  -- An answer that lets a request pass has an empty body. Otherwise it could be a part of an answer.
  if (answer.headers["content-length"] or {})[0] ~= "0" then error("the answer has a body") end
  for _, name in ipairs(identity) do
    if (answer.headers[name] or { [0] = "" })[0] == "" then error(name .. " is missing in the answer") end
  end
  for name in pairs(request) do
    local plain = name:lower():gsub("%W", "-")
    if plain:find("^x%-keyward%-") or claims[plain] then txn.http:req_del_header(name) end
  end
  for _, name in ipairs(identity) do txn.http:req_set_header(name, answer.headers[name][0]) end
  -- The target of a request may be a whole URL. The API gets exactly the path that keyward judged.
  txn.http:req_set_uri(txn.f:pathq())
  txn.http:req_del_header("x-api-key")
  if holds_key(values(request, "authorization")) then txn.http:req_del_header("authorization") end
  -- A WebSocket may open. An upgrade to HTTP/2 would be a tunnel that bypasses this script.
  local upgrades = values(request, "upgrade")
  txn.http:req_del_header("connection")
  if #upgrades == 1 and upgrades[1]:lower() == "websocket" then
    txn.http:req_set_header("connection", "upgrade")
  else
    txn.http:req_del_header("upgrade")
  end
  txn:set_var("txn.keyward", "passed")
end

-- Passes the request on, or returns the status, headers and body of a refusal.
local function judge(txn, scope)
  local request = txn.http:req_get_headers()
  -- Each proxy removes the headers that Connection names, so the identity would not reach the API.
  for _, value in ipairs(values(request, "connection")) do
    if value:lower():find("keyward", 1, true) then return 400, {}, "" end
  end
  local answer = ask(txn, request, scope)
  if answer.status == 200 then return pass(txn, request, answer) end
  if answer.status ~= 401 and answer.status ~= 403 and answer.status ~= 429 then
    error("keyward answers " .. tostring(answer.status))
  end
  local headers = {}
  for _, name in ipairs(shown) do headers[name] = answer.headers[name] and answer.headers[name][0] end
  return answer.status, headers, answer.body
end

core.register_action("keyward", { "http-req" }, function(txn, scope)
  local done, status, headers, body = pcall(judge, txn, scope)
  if done and not status then return end
  if not done then
    txn:Warning("keyward: " .. tostring(status))
    status, body = 503, '{"title":"Try again later","status":503,"code":"authorization_unavailable"}'
    headers = {
      ["content-type"] = "application/problem+json",
      ["cache-control"] = "no-store",
      ["retry-after"] = "1",
    }
  end
  local reply = txn:reply({ status = status })
  for name, value in pairs(headers) do reply:add_header(name, value) end
  reply:set_body(body or "")
  txn:done(reply)
end, 1)
