// The page: what `chat.js` says becomes elements, never markup, so that a text cannot be a script.

import { enter } from "./chat.js"

const TYPING_EVERY = 2000 // ms between two "typing"; they are shown a little longer than that
const at = (id) => document.getElementById(id)
const typists = new Map()
let conversation = null
let typedAt = 0

function element(name, className, text) {
  const made = document.createElement(name)
  made.className = className
  made.textContent = text
  return made
}

function append(item) {
  const list = at("lines")
  const following = list.scrollHeight - list.scrollTop - list.clientHeight < 40
  list.append(item)
  if (following) list.scrollTop = list.scrollHeight
}

function line({ by, text, at: seconds }) {
  const item = element("li", by === at("name").value.trim() ? "line own" : "line", "")
  const time = element("time", "", new Date(seconds * 1000).toLocaleTimeString([], { timeStyle: "short" }))
  item.append(element("b", "", by), time, element("p", "", text))
  return item
}

function showTypists() {
  const names = [...typists.keys()]
  at("status").textContent = names.length ? `${names.join(", ")} ${names.length > 1 ? "are" : "is"} typing …` : ""
}

function still(name) {
  clearTimeout(typists.get(name))
  typists.delete(name)
  showTypists()
}

function notice(text, here) {
  append(element("li", "notice", text))
  at("here").textContent = here === 1 ? "only you" : `${here} here`
}

const show = {
  entered(room) {
    at("door").hidden = true
    at("inside").hidden = false
    at("title").textContent = room
    at("status").textContent = ""
    at("text").focus()
  },
  refused(reason) {
    if (at("inside").hidden) document.querySelector(".refusal").textContent = reason
    else at("status").textContent = reason
  },
  away() {
    at("status").textContent = "connection lost, coming back …"
  },
  history(lines) {
    at("lines").replaceChildren(...lines.map(line))
    at("lines").scrollTop = at("lines").scrollHeight
  },
  said(said) {
    still(said.by)
    append(line(said))
  },
  typing(name) {
    clearTimeout(typists.get(name))
    typists.set(name, setTimeout(() => still(name), TYPING_EVERY + 1000))
    showTypists()
  },
  came: ({ name, here }) => notice(`${name} came in`, here),
  left({ name, here }) {
    still(name)
    notice(`${name} left`, here)
  },
}

at("door").addEventListener("submit", (event) => {
  event.preventDefault()
  document.querySelector(".refusal").textContent = ""
  conversation = enter(at("room").value.trim(), at("name").value, show)
})

at("say").addEventListener("submit", (event) => {
  event.preventDefault()
  conversation.say(at("text").value)
  at("text").value = ""
  typedAt = 0
})

at("text").addEventListener("input", () => {
  if (Date.now() - typedAt > TYPING_EVERY) {
    typedAt = Date.now()
    conversation.typing()
  }
})

at("out").addEventListener("click", () => {
  conversation.leave()
  at("inside").hidden = true
  at("door").hidden = false
})
