<?php
// PHP: lets keyward verify the API key of a request. Needs PHP 8.1 or later with its cURL extension (php-curl).
// Begin a script with require 'middleware.php'; $caller = keyward('orders:read'); a refused request ends there.
// KEYWARD_URL is the address of keyward. KEYWARD_KEY_FILE holds your service's own key, with the scope
// api-keys:verify; it is read for each request. The rules are in docs/integrate.md.

const KEYWARD_STATUS = ['MALFORMED' => 401, 'NOT_FOUND' => 401, 'REVOKED' => 401, 'ROTATED' => 401, 'EXPIRED' => 401,
    'DISABLED' => 401, 'ACCOUNT_SUSPENDED' => 401, 'INSUFFICIENT_SCOPES' => 403, 'IP_NOT_ALLOWED' => 403,
    'RATE_LIMITED' => 429];
const KEYWARD_TITLE = [400 => 'Bad Request', 401 => 'Unauthorized', 403 => 'Forbidden', 429 => 'Too Many Requests',
    503 => 'Service Unavailable'];

function keyward_refuse(int $status, string $code, array $members = []): never {
    http_response_code($status);
    header('Content-Type: application/problem+json');
    if ($status === 401) header('WWW-Authenticate: ApiKey realm="api", header="X-API-Key"');
    $problem = ['type' => 'about:blank', 'title' => KEYWARD_TITLE[$status], 'status' => $status, 'code' => $code];
    exit(json_encode($problem + $members));
}

/** Returns keyward's answer. The handle keeps its connection for as long as PHP keeps the variable. */
function keyward_verify(array $question): array {
    static $curl = null;
    $curl ??= curl_init(rtrim(getenv('KEYWARD_URL') ?: 'http://127.0.0.1:8080', '/') . '/api/v1/api-keys/verify');
    $own = trim((string) @file_get_contents((string) getenv('KEYWARD_KEY_FILE')));
    curl_setopt_array($curl, [
        CURLOPT_HTTPHEADER => ['Content-Type: application/json', "X-API-Key: $own"],
        CURLOPT_POSTFIELDS => json_encode($question, JSON_THROW_ON_ERROR | JSON_INVALID_UTF8_SUBSTITUTE),
        CURLOPT_RETURNTRANSFER => true,
        CURLOPT_TIMEOUT_MS => 2000, // In all. cURL itself tries again if a connection that it kept was closed.
        CURLOPT_NOSIGNAL => true,
        CURLOPT_PROXY => '', // No proxy from the environment gets the keys.
    ]);
    $text = curl_exec($curl);
    if ($text === false) throw new UnexpectedValueException('cURL error ' . curl_errno($curl));
    $status = curl_getinfo($curl, CURLINFO_RESPONSE_CODE);
    if ($status !== 200) throw new UnexpectedValueException("status $status");
    $found = json_decode($text, true);
    return is_array($found) ? $found : throw new UnexpectedValueException('no JSON');
}

/** Returns accountId, externalId, keyId, scopes and the other members of keyward's answer. */
function keyward(string ...$scopes): array {
    $bearer = preg_match('/^bearer +(.+)/i', $_SERVER['HTTP_AUTHORIZATION'] ?? '', $found) ? $found[1] : '';
    $key = $_SERVER['HTTP_X_API_KEY'] ?? $bearer;
    if ($key === '') keyward_refuse(401, 'MISSING_KEY');
    if ($bearer !== '' && $bearer !== $key) keyward_refuse(400, 'CONFLICTING_KEYS');
    $question = ['key' => $key, 'scopes' => $scopes];
    $address = explode('%', $_SERVER['REMOTE_ADDR'] ?? '')[0]; // On a Unix socket, this is no IP address.
    if (filter_var($address, FILTER_VALIDATE_IP)) $question['clientIp'] = $address;
    try {
        $found = keyward_verify($question);
        $code = $found['code'] ?? null;
        if ($code === 'VALID' && ($found['valid'] ?? null) === true) return $found;
        $status = KEYWARD_STATUS[$code] ?? throw new UnexpectedValueException('unknown answer');
        $wait = $status === 429 ? max(1, strtotime($found['rateLimit']['resetAt'] ?? 'now') - time()) : 0;
    } catch (Throwable $error) { // Log no text of an answer: it could hold a key.
        $reason = $error instanceof UnexpectedValueException ? $error->getMessage() : get_class($error);
        error_log("keyward cannot verify: $reason");
        header('Retry-After: 5');
        keyward_refuse(503, 'UNAVAILABLE');
    }
    if ($status === 429) header("Retry-After: $wait");
    keyward_refuse($status, $code, $status === 403 ? ['missingScopes' => $found['missingScopes']] : []);
}
