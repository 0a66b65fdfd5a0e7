<?php
// A sample API that middleware.php protects.
require __DIR__ . '/middleware.php';

$needed = ['GET /orders' => ['orders:read'], 'POST /orders' => ['orders:write'], 'GET /whoami' => []];
$scopes = $needed["$_SERVER[REQUEST_METHOD] " . parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH)] ?? null;
if ($scopes === null) {
    http_response_code(404);
    exit;
}
$caller = keyward(...$scopes);
header('Content-Type: application/json');
echo json_encode(['account' => $caller['accountId'], 'key' => $caller['keyId'], 'scopes' => $caller['scopes']]);
