//! Reads a request's whole body, with limits on size, time and memory.

use bytes::{Bytes, BytesMut};
use hyper::body::{Body as _, Incoming};
use tokio::time::{Instant, timeout_at};

use http_body_util::BodyExt as _;

use super::share::{Held, Share};
use crate::limits::{Patience, SMALL_BODY};

/// A whole body, with the memory that it holds.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) bytes: Bytes,
    pub(super) held: Held,
}

/// Why the body could not be read.
#[derive(Debug)]
pub(super) enum Unread {
    /// It is, or grew, larger than this many bytes.
    TooLarge(usize),
    /// It took too long.
    TooSlow,
    /// Other bodies took all the memory for too long.
    NoMemory,
    /// The connection broke, or the framing is wrong.
    Broken(hyper::Error),
}

/// Reads `body` of at most `largest` bytes. When a body is no longer small, it reserves all the
/// memory that it may need: its announced length, or the largest. So two bodies cannot wait for
/// each other, and an announcement alone reserves nothing.
pub(super) async fn read(
    mut body: Incoming,
    largest: usize,
    share: &Share,
    patience: Patience,
) -> Result<Body, Unread> {
    let announced = body.size_hint();
    let least = usize::try_from(announced.lower()).unwrap_or(usize::MAX);
    if least > largest {
        return Err(Unread::TooLarge(largest));
    }
    let mut held = Held::default();
    let Some(first) = next(&mut body, patience.body).await? else {
        let bytes = Bytes::new();
        return Ok(Body { bytes, held });
    };
    // Usually the whole body is one piece, which then need not be copied.
    if announced.exact() == Some(first.len() as u64) && first.len() <= SMALL_BODY {
        return Ok(Body { bytes: first, held });
    }
    let mut whole = BytesMut::with_capacity(least.min(SMALL_BODY));
    let mut small = true;
    let mut piece = Some(first);
    while let Some(bytes) = piece {
        let size = whole.len() + bytes.len();
        if size > largest {
            return Err(Unread::TooLarge(largest));
        }
        if small && size > SMALL_BODY {
            small = false;
            let needed = announced.exact().map_or(largest, |_| least);
            let wait = share.body(needed, patience.queue.min(patience.body));
            held = wait.await.ok_or(Unread::NoMemory)?;
            whole.reserve(least.saturating_sub(whole.len()));
        }
        whole.extend_from_slice(&bytes);
        piece = next(&mut body, patience.body).await?;
    }
    Ok(Body {
        bytes: whole.freeze(),
        held,
    })
}

/// The next bytes of a body; `None` at its end. Trailers are ignored.
async fn next(body: &mut Incoming, until: Instant) -> Result<Option<Bytes>, Unread> {
    loop {
        let frame = timeout_at(until, body.frame())
            .await
            .map_err(|_elapsed| Unread::TooSlow)?;
        match frame {
            None => return Ok(None),
            Some(Err(error)) => return Err(Unread::Broken(error)),
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
        }
    }
}
