-- Forward auth with keyward for Apache httpd 2.4.47 and later, with mod_lua and Debian's lua-socket. The site
-- sets two variables before the hook runs: `keyward_url`, where keyward listens, and `keyward_scope`, the
-- scope to ask for. With the scope `-`, keyward's route policy decides.
--
-- If keyward allows the request, the hook passes it on, with the identity in X-Keyward-* and without the key.
-- Otherwise the hook sends keyward's refusal. If a step fails, it answers 503. A worker thread waits for each
-- answer.

local socket, http, ltn12 = require("socket"), require("socket.http"), require("ltn12")
local timeout_seconds = 2

-- The request headers that keyward reads, besides those that ask() sets.
local asked = { "X-API-Key", "Authorization", "X-Request-Id", "traceparent", "Origin",
                "Access-Control-Request-Method" }
-- The headers of an answer that the API reads.
local identity = { "X-Keyward-Key-Id", "X-Keyward-Key-Name", "X-Keyward-Account-Id",
                   "X-Keyward-External-Id", "X-Keyward-Scopes", "X-Keyward-Key-Expires-At" }
-- The headers in which a client claims another method, path, host or address, which some frameworks believe.
-- keyward judges those that Apache got.
local claims = {
  ["forwarded"] = true, ["x-forwarded-for"] = true, ["x-forwarded-host"] = true, ["x-forwarded-server"] = true,
  ["x-forwarded-method"] = true, ["x-forwarded-uri"] = true, ["x-forwarded-prefix"] = true,
  ["x-original-method"] = true, ["x-original-url"] = true, ["x-original-uri"] = true, ["x-original-host"] = true,
  ["x-rewrite-url"] = true, ["x-http-method"] = true, ["x-http-method-override"] = true,
  ["x-method-override"] = true, ["x-real-ip"] = true, ["script-name"] = true, ["x-script-name"] = true,
  ["path-info"] = true,
}
-- The headers of a refusal that the client reads.
local shown = { "WWW-Authenticate", "Retry-After", "RateLimit", "RateLimit-Policy", "X-Request-Id",
                "X-Keyward-Reason", "Cache-Control" }

-- Returns whether the header contains a bearer token with the shape of a keyward key. Apache joins headers of
-- one name with a comma.
local function holds_key(authorization)
  for token in authorization:gmatch("[Bb][Ee][Aa][Rr][Ee][Rr]%s+(%w+_%w+)") do
    if #token == 50 then return true end
  end
  return false
end

local function ask(r, scope)
  local question, body = {}, {}
  for _, name in ipairs(asked) do question[name] = r.headers_in[name] end
  question["X-Forwarded-Method"] = r.method
  question["X-Forwarded-Uri"] = r.unparsed_uri
  question["X-Forwarded-Host"] = r.headers_in["Host"] or ""
  question["X-Forwarded-For"] = r.useragent_ip
  local url = r.subprocess_env["keyward_url"]
  if scope ~= "-" then url = url .. "?scope=" .. scope end
  local reached, status, headers, line = http.request({
    url = url, headers = question, redirect = false, sink = ltn12.sink.table(body),
    create = function()
      local connection = socket.tcp()
      connection:settimeout(timeout_seconds, "t")
      return connection
    end,
  })
  -- The library takes 2000 for 200.
  if reached and not line:find("^HTTP/1%.[01] " .. status .. "%f[%D]") then error("keyward answers " .. line) end
  return reached and status, headers, table.concat(body)
end

-- Removes the client's own identity headers and claims, in every spelling that CGI cannot distinguish, and the
-- key. Then sets the identity headers from keyward's answer.
local function pass(r, headers)
  -- An answer that lets a request pass has an empty body. Otherwise it could be a part of an answer.
  if headers["content-length"] ~= "0" then error("the answer has a body") end
  for _, name in ipairs(identity) do
    if (headers[name:lower()] or "") == "" then error(name .. " is missing in the answer") end
  end
  for name in pairs(r:headers_in_table()) do
    local plain = name:lower():gsub("%W", "-")
    -- Apache would append to the client's own X-Forwarded-For, -Host and -Server.
    if plain:find("^x%-keyward%-") or claims[plain] then r.headers_in[name] = nil end
  end
  for _, name in ipairs(identity) do r.headers_in[name] = headers[name:lower()] end
  r.headers_in["X-API-Key"] = nil
  if holds_key(r.headers_in["Authorization"] or "") then r.headers_in["Authorization"] = nil end
  -- A WebSocket may open. An upgrade to HTTP/2 would be a tunnel that bypasses this hook.
  local upgrade = r.headers_in["Upgrade"]
  if upgrade and upgrade:lower() ~= "websocket" then r.headers_in["Upgrade"] = nil end
end

local function refuse(r, status, headers, body)
  for _, name in ipairs(shown) do
    if headers[name:lower()] then r.err_headers_out[name] = headers[name:lower()] end
  end
  r.status = status
  r.content_type = headers["content-type"] or "text/plain"
  r:write(body)
  return apache2.DONE
end

local function judge(r)
  local scope = r.subprocess_env["keyward_scope"]
  if not scope then return 404 end
  -- mod_proxy would remove the headers that Connection names, after this hook has set them.
  if (r.headers_in["Connection"] or ""):lower():find("keyward", 1, true) then return 400 end
  http.TIMEOUT = timeout_seconds
  local status, headers, body = ask(r, scope)
  if status == 200 then
    pass(r, headers)
    -- The site refuses all requests without this variable.
    r.subprocess_env["keyward"] = "passed"
    return apache2.OK
  elseif status == 401 or status == 403 or status == 429 then
    return refuse(r, status, headers, body)
  end
  error("keyward cannot be asked: " .. tostring(status or headers))
end

function keyward(r)
  local done, result = pcall(judge, r)
  if done then return result end
  r:err("keyward: " .. tostring(result))
  return refuse(r, 503, {
    ["content-type"] = "application/problem+json",
    ["cache-control"] = "no-store",
    ["retry-after"] = "1",
  }, '{"title":"Try again later","status":503,"code":"authorization_unavailable"}')
end
