// The conversation: the stock Phoenix client, and nothing of moda's. `page.js` has the page.

import { Socket } from "./phoenix.mjs"

const socket = new Socket("/socket")
socket.connect()

/** Joins a room and tells `show` what happens there. Returns what one can do in it. */
export function enter(room, name, show) {
  const channel = socket.channel(`room:${room}`, { name })

  channel.on("history", ({ lines }) => show.history(lines))
  channel.on("said", (line) => show.said(line))
  channel.on("typing", (who) => show.typing(who.name))
  channel.on("came", (who) => show.came(who))
  channel.on("left", (who) => show.left(who))
  channel.onError(() => show.away())

  channel.join()
    .receive("ok", () => show.entered(room))
    .receive("error", ({ reason }) => {
      channel.leave() // or it would ask again by itself
      show.refused(reason)
    })

  return {
    say: (text) => channel.push("say", { text }).receive("error", ({ reason }) => show.refused(reason)),
    typing: () => channel.push("typing", {}),
    leave: () => channel.leave(),
  }
}
