//! A request's body, read whole within limits of size, time and memory.

use bytes::{Bytes, BytesMut};
use hyper::body::{Body as _, Incoming};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use http_body_util::BodyExt as _;

use crate::limits::{MAX_BODY, Patience, SMALL_BODY};

/// Bytes that bodies over [`SMALL_BODY`] may take together.
#[derive(Debug)]
pub(super) struct Budget {
    bytes: Semaphore,
}

/// A whole body, with its share of the budget.
#[derive(Debug)]
pub(super) struct Body<'b> {
    pub(super) bytes: Bytes,
    _share: Option<SemaphorePermit<'b>>,
}

/// Why there is no whole body.
#[derive(Debug)]
pub(super) enum Unread {
    /// It is, or grew, larger than [`MAX_BODY`].
    TooLarge,
    /// It took longer than its sender waits for the answer.
    TooSlow,
    /// Other large bodies took all the memory for too long.
    NoMemory,
    /// The connection or the framing broke.
    Broken(hyper::Error),
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            bytes: Semaphore::new(bytes.min(Semaphore::MAX_PERMITS)),
        }
    }

    /// Reads `body`. A body of announced length asks for its share before it is read; one of unknown length asks for
    /// the largest when it has stopped being small, so that two of them cannot wait for each other.
    pub(super) async fn read(
        &self,
        mut body: Incoming,
        patience: Patience,
    ) -> Result<Body<'_>, Unread> {
        let announced = body.size_hint();
        let least = usize::try_from(announced.lower()).unwrap_or(usize::MAX);
        if least > MAX_BODY {
            return Err(Unread::TooLarge);
        }
        let mut share = None;
        if least > SMALL_BODY {
            share = Some(self.share(least, patience.queue).await?);
        }
        let Some(first) = next(&mut body, patience.body).await? else {
            return Ok(Body {
                bytes: Bytes::new(),
                _share: share,
            });
        };
        // Nearly always the whole body is one piece, which then need not be copied.
        if announced.exact() == Some(first.len() as u64) {
            return Ok(Body {
                bytes: first,
                _share: share,
            });
        }
        let mut whole = BytesMut::with_capacity(least.max(first.len()));
        let mut piece = Some(first);
        while let Some(bytes) = piece {
            let size = whole.len() + bytes.len();
            if size > MAX_BODY {
                return Err(Unread::TooLarge);
            }
            if size > SMALL_BODY && share.is_none() {
                share = Some(self.share(MAX_BODY, patience.queue).await?);
            }
            whole.extend_from_slice(&bytes);
            piece = next(&mut body, patience.body).await?;
        }
        Ok(Body {
            bytes: whole.freeze(),
            _share: share,
        })
    }

    async fn share(&self, bytes: usize, until: Instant) -> Result<SemaphorePermit<'_>, Unread> {
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        match timeout_at(until, self.bytes.acquire_many(permits)).await {
            Ok(Ok(share)) => Ok(share),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(Unread::NoMemory),
        }
    }
}

/// The next bytes of a body; `None` at its end. Trailers are passed over.
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
