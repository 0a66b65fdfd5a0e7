// A sample API that express.mjs protects. It listens on PORT, or else 3000.
import express from 'express'
import { keyward } from './express.mjs'

const show = (req, res) => {
  const { accountId, keyId, scopes } = req.keyward
  res.json({ account: accountId, key: keyId, scopes })
}

const app = express()
app.get('/orders', keyward('orders:read'), show)
app.post('/orders', keyward('orders:write'), show)
app.get('/whoami', keyward(), show)
app.listen(Number(process.env.PORT ?? 3000), '127.0.0.1')
