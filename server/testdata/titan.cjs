// A conversation of two users, over npm's ws.
const WebSocket = require('ws')
const [, , url, token1, token2] = process.argv

class Client {
  constructor(protocols) {
    this.ws = new WebSocket(url, protocols, { origin: 'http://localhost' })
    this.waiting = new Map()
    this.received = []
    this.ws.on('message', (data) => this.take(JSON.parse(data)))
    this.open = new Promise((resolve, reject) => {
      this.ws.on('open', resolve)
      this.ws.on('error', reject)
    })
    this.closed = new Promise((resolve) => this.ws.on('close', resolve))
  }
  take(m) {
    if (m.method) {
      this.received.push(m.params[0])
      this.ws.send(JSON.stringify({ id: m.id, result: 'ACK' }))
      if (this.arrived) this.arrived()
      return
    }
    this.waiting.get(m.id)(m)
  }
  ask(id, method, params) {
    return new Promise((resolve) => {
      this.waiting.set(id, resolve)
      this.ws.send(JSON.stringify({ id, method, params }))
    })
  }
  async receive(n) {
    while (this.received.length < n) await new Promise((resolve) => { this.arrived = resolve })
  }
}

function equal(got, want) {
  if (JSON.stringify(got) !== JSON.stringify(want)) throw new Error(`got ${JSON.stringify(got)}, want ${JSON.stringify(want)}`)
}

async function main() {
  const one = new Client('titan')
  await one.open
  equal(one.ws.protocol, 'titan')
  equal(await one.ask('1', 'auth.jwt', { token: token1 }), { id: '1', result: 'ACK' })
  equal(await one.ask('2', 'echo', { message: 'é <>&\u2028' }), { id: '2', result: { message: 'é <>&\u2028' } })
  equal(await one.ask('3', 'msg.send', Array.from({ length: 100 }, (_, i) => ({ to: '2', message: 'm' + i }))), { id: '3', result: 'ACK' })
  const two = new Client()
  await two.open
  equal(await two.ask('1', 'echo', { token: token2 }), { id: '1', result: { token: token2 } })
  await two.receive(100)
  equal(two.received.map((m) => m.message), Array.from({ length: 100 }, (_, i) => 'm' + i))
  equal(two.received[0].from, '1')
  const bad = new Client()
  await bad.open
  equal((await bad.ask('1', 'auth.jwt', { token: 'x' })).error.code, -32001)
  equal(await bad.closed, 1000)
  one.ws.close()
  two.ws.close()
  await Promise.all([one.closed, two.closed])
  console.log('ok')
}

main().catch((e) => { console.error(e); process.exit(1) })
