//! What the gateway says to a client, in Phoenix's words.

use std::sync::Arc;

use crate::dialect::websocket;
use crate::gateway::{Began, Body, Dialect, End, Event, Gateway, Notes, Unsent, Verdict};
use crate::hub::{ConnKey, SubKey};
use crate::ws::{self, Opcode};

use super::join::{abandon, answer_join};
use super::write::{frame_broadcast, frame_end, frame_push, frame_reply, ERROR, NOTHING, OK};
use super::{encode, receive, variant, Phoenix, Refs, V2, VARIANTS};
use crate::json::{quote, with_members};

impl<H> Dialect<H> for Phoenix {
    fn variants(&self) -> &'static [&'static str] {
        VARIANTS
    }

    fn encode(&self, variant: u8, event: &Event<'_>, out: &mut Vec<u8>) -> bool {
        frame_broadcast(out, variant, event)
    }

    fn message<'f>(
        &self,
        gateway: &mut Gateway<H>,
        conn: ConnKey,
        text: bool,
        message: &'f [u8],
    ) -> Verdict<'f> {
        receive::message(gateway, conn, text, message)
    }

    fn accept(
        &self,
        gateway: &mut Gateway<H>,
        sub: SubKey,
        response: Body<'_>,
        began: Option<Began>,
    ) -> Result<(), Unsent> {
        let told = match (response, began) {
            (Body::Json(json), Some(began)) => with_members(json, &began.members()),
            _ => None,
        };
        let response = told.as_deref().map_or(response, Body::Json);
        answer_join(gateway, sub, OK, response)
    }

    fn refuse(&self, gateway: &mut Gateway<H>, sub: SubKey, response: &[u8]) {
        // JSON is encodable always.
        let _ = answer_join(gateway, sub, ERROR, Body::Json(response));
        gateway.release(sub);
    }

    fn reply(
        &self,
        gateway: &mut Gateway<H>,
        sub: SubKey,
        reference: &str,
        status: &str,
        body: Body<'_>,
    ) -> Result<(), Unsent> {
        let (conn, join_ref, topic) = addressee(gateway, sub)?;
        send_reply(gateway, conn, &join_ref, reference, &topic, status, body)
    }

    fn push(
        &self,
        gateway: &mut Gateway<H>,
        sub: SubKey,
        event: &str,
        body: Body<'_>,
    ) -> Result<(), Unsent> {
        let (conn, join_ref, topic) = addressee(gateway, sub)?;
        let variant = variant(gateway, conn)?;
        match body {
            Body::Json(json) => gateway.hub.ordered(conn, |out| {
                frame_push(out, variant, &join_ref, &topic, event, json);
            }),
            Body::Binary(data) => {
                let frame = binary(variant, data.len(), |out| {
                    encode::binary_push(out, &join_ref, &topic, event, data)
                })?;
                gateway
                    .hub
                    .ordered(conn, |out| out.extend_from_slice(&frame));
            }
        }
        Ok(())
    }

    fn end(
        &self,
        gateway: &mut Gateway<H>,
        conn: ConnKey,
        topic: &str,
        notes: Notes,
        how: End<'_>,
    ) {
        let (Some(refs), Ok(variant)) = (Refs::from_notes(notes), variant(gateway, conn)) else {
            return;
        };
        let why = match how {
            End::Left { .. } => "left",
            End::Closed | End::Crashed => "join crashed",
        };
        abandon(gateway, conn, topic, &refs, why);
        if let End::Left { reference } = how {
            let topic = quote(topic);
            gateway.hub.ordered(conn, |out| {
                let join_ref = refs.push_ref();
                frame_reply(out, variant, join_ref, reference, &topic, OK, NOTHING);
            });
        }
        gateway.hub.ordered(conn, |out| {
            frame_end(out, variant, &refs.join_ref, topic, how == End::Crashed);
        });
    }

    fn ping(&self, out: &mut Vec<u8>) {
        websocket::ping(out);
    }

    fn close(
        &self,
        _: &mut Gateway<H>,
        _: ConnKey,
        code: u16,
        reason: &str,
        out: &mut Vec<u8>,
    ) -> bool {
        websocket::close(code, reason, out)
    }
}

/// The connection, the join ref its pushes carry, and the topic.
fn addressee<H>(
    gateway: &Gateway<H>,
    sub: SubKey,
) -> Result<(ConnKey, Box<str>, Arc<str>), Unsent> {
    let (conn, topic) = gateway.addressee(sub)?;
    Ok((conn, Refs::of(gateway, sub)?.push_ref().into(), topic))
}

pub(super) fn send_reply<H>(
    gateway: &mut Gateway<H>,
    conn: ConnKey,
    join_ref: &str,
    reference: &str,
    topic: &str,
    status: &str,
    body: Body<'_>,
) -> Result<(), Unsent> {
    let variant = variant(gateway, conn)?;
    match body {
        Body::Json(json) => {
            let topic = quote(topic);
            gateway.hub.ordered(conn, |out| {
                frame_reply(out, variant, join_ref, reference, &topic, status, json);
            });
        }
        Body::Binary(data) => {
            let frame = binary(variant, data.len(), |out| {
                encode::binary_reply(out, join_ref, reference, topic, status, data)
            })?;
            gateway
                .hub
                .ordered(conn, |out| out.extend_from_slice(&frame));
        }
    }
    Ok(())
}

/// A binary frame, which V1 does not have.
fn binary(
    variant: u8,
    size: usize,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), super::TooLong>,
) -> Result<Vec<u8>, Unsent> {
    if variant != V2 {
        return Err(Unsent::Unencodable);
    }
    let mut frame = Vec::new();
    let written = ws::try_frame_sized(&mut frame, Opcode::Binary, size, write);
    written.map_err(|_| Unsent::Unencodable)?;
    Ok(frame)
}
