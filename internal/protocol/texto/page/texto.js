'use strict'
// The chat page: one session of the Texto protocol, see docs/protocol/texto.md.

const kept = 500 // messages shown
const patience = 15_000 // ms to wait for an answer
const sign = 60_000 // ms between signs of life: proxies and the server end what is quiet
const uuid4 = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/i

const $ = (id) => document.getElementById(id)
const path = document.querySelector('meta[name="texto-path"]').content
const url = (location.protocol === 'https:' ? 'wss://' : 'ws://') + location.host + path

let socket = null
let me = '' // this session's id; empty while there is none
let before = '' // the id of the session before
let attempts = 0
let sending = null // {id, timer} of the message that waits for its answer

function say(state, text) {
  $('state').dataset.state = state
  $('state').textContent = text
}

function complain(text, field) {
  $('error').textContent = text
  for (const name of ['to', 'text']) {
    if (name === field) $(name).setAttribute('aria-invalid', 'true')
    else $(name).removeAttribute('aria-invalid')
  }
  if (field) $(field).focus()
}

// newID is a random UUID; crypto.randomUUID exists in secure contexts only.
function newID() {
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  bytes[6] = (bytes[6] & 0x0f) | 0x40
  bytes[8] = (bytes[8] & 0x3f) | 0x80
  const hex = Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('')
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
}

function tell(kind, id, data) {
  socket.send(JSON.stringify({client_id: me, id, kind, data}))
}

function show(from, to, text) {
  const item = document.createElement('li')
  const who = document.createElement('span')
  who.className = 'from'
  who.textContent = from === me ? `You to ${to}` : from
  const when = document.createElement('time')
  when.dateTime = new Date().toISOString()
  when.textContent = new Date().toLocaleTimeString()
  const body = document.createElement('span')
  body.className = 'text'
  body.textContent = text
  item.append(who, ' ', when)
  if (from !== me) {
    const reply = document.createElement('button')
    reply.type = 'button'
    reply.textContent = 'Reply'
    reply.setAttribute('aria-label', `Reply to ${from}`)
    reply.addEventListener('click', () => {
      $('to').value = from
      $('text').focus()
    })
    item.append(' ', reply)
  }
  item.append(body)
  const list = $('messages')
  list.append(item)
  while (list.children.length > kept) list.firstChild.remove()
  list.scrollTop = list.scrollHeight
}

// ready says whether a message can be sent.
function ready() {
  const can = me !== '' && sending === null
  $('submit').disabled = !can
  $('submit').textContent = sending ? 'Sending…' : 'Send'
  $('copy').disabled = me === ''
}

function answered(problem) {
  const {to, text, timer} = sending
  clearTimeout(timer)
  sending = null
  ready()
  if (problem) {
    complain(problem, 'text')
    return
  }
  if (to !== me) show(me, to, text)
  $('text').value = ''
  complain('')
  $('text').focus()
}

function send(event) {
  event.preventDefault()
  if (me === '' || sending) return
  const to = $('to').value.trim().toLowerCase()
  const text = $('text').value
  if (!uuid4.test(to)) return complain('The recipient is not an id. An id is a UUIDv4: 32 digits and letters a to f, in five groups.', 'to')
  if (text === '') return complain('There is no message.', 'text')
  complain('')
  const id = newID()
  sending = {id, to, text, timer: setTimeout(() => answered('The server does not answer. The message may have been sent or not.'), patience)}
  ready()
  tell('send', id, {receiver_id: to, text})
}

function welcome(id) {
  if (me === id) return // the answer to a sign of life
  me = id
  attempts = 0
  $('me').textContent = me
  say('connected', before ? 'Connected again. Your id is another one now.' : 'Connected.')
  ready()
}

function hear(message) {
  switch (message.kind) {
    case 'connection':
      return welcome(message.client_id)
    case 'receive':
      tell('ack', message.id, null)
      return show(message.data.sender_id, me, message.data.text)
    case 'ack':
      if (sending?.id === message.id) answered('')
      return
    case 'error':
      // An error of syntax has an id of its own; it can only be about the one
      // message that waits.
      if (sending && (sending.id === message.id || message.data.code === 'ESYNTAX')) answered(message.data.description)
  }
}

function why(event) {
  switch (event.code) {
    case 1012: return 'The server restarts.'
    case 1001: return 'The server has ended a quiet connection.'
    case 1008: return 'The server has ended the connection: ' + event.reason + '.'
    case 1009: return 'The message is too long for the server.'
  }
  return attempts > 0 ? 'The server cannot be reached.' : 'The connection is lost.'
}

function connect() {
  const own = new WebSocket(url)
  socket = own
  let alive
  own.addEventListener('open', () => {
    alive = setInterval(() => tell('registration', newID(), null), sign)
  })
  own.addEventListener('message', (event) => {
    let message
    try {
      message = JSON.parse(event.data)
    } catch {
      return
    }
    hear(message)
  })
  own.addEventListener('close', (event) => {
    clearInterval(alive)
    before = me || before
    me = ''
    $('me').textContent = '–'
    if (sending) answered('The connection is lost. The message may have been sent or not.')
    const reason = why(event)
    const pause = Math.min(500 * 2 ** attempts, 10_000) * (0.5 + Math.random() / 2)
    attempts++
    say('offline', `${reason} Connecting again…`)
    ready()
    setTimeout(connect, pause)
  })
}

async function copy() {
  const was = $('copy').textContent
  try {
    await navigator.clipboard.writeText(me)
  } catch { // without a secure context there is no clipboard
    getSelection().selectAllChildren($('me'))
    if (!document.execCommand('copy')) return complain('The id is selected; copy it with the keyboard.')
  }
  $('copy').textContent = 'Copied'
  setTimeout(() => { $('copy').textContent = was }, 2000)
}

$('send').addEventListener('submit', send)
$('copy').addEventListener('click', copy)
connect()
