//! Work on many things, on several connections.

use std::{
    sync::{Mutex, PoisonError},
    thread,
};

use diesel::PgConnection;

use crate::{Error, migrate::Connector, pg};

/// Who does the work: so many, each with a connection from here.
pub(crate) struct Crew<'c> {
    pub(crate) connect: &'c Connector<'c>,
    pub(crate) jobs: usize,
}

/// What was made, and what was in the way of the rest.
type Outcome<'i, I, T> = (Vec<T>, Vec<(&'i I, Error)>);

/// What nobody has worked on, and why there was no connection for it.
type Rest<'i, I> = (Vec<&'i I>, Option<Error>);

/// How many things a connection works on before it is replaced: the server keeps what it learns of every tenant
/// in memory until then.
const WORN: usize = 2000;

/// As many connections as there are cores, 2 to 8: it is the server that works.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from).clamp(2, 8)
}

impl Crew<'_> {
    /// Hands out the items, at most so many at a time, and gathers what is made of them, in any order.
    ///
    /// Where a part fails, it is tried in smaller ones, until it is known which items are in the way.
    pub(crate) fn share<'i, I: Sync, T: Send>(
        &self,
        items: &'i [I],
        most: usize,
        work: impl Fn(&mut PgConnection, &[&'i I]) -> Result<Vec<T>, Error> + Sync,
    ) -> Result<Outcome<'i, I, T>, Error> {
        let (outcome, (_, hindrance)) = self.share_what_can_be(items, most, work)?;
        hindrance.map_or(Ok(outcome), Err)
    }

    /// The same, and tells what is left where no connection can be had for it. Those that are had go on without others.
    pub(crate) fn share_what_can_be<'i, I: Sync, T: Send>(
        &self,
        items: &'i [I],
        most: usize,
        work: impl Fn(&mut PgConnection, &[&'i I]) -> Result<Vec<T>, Error> + Sync,
    ) -> Result<(Outcome<'i, I, T>, Rest<'i, I>), Error> {
        if items.is_empty() {
            return Ok(Default::default());
        }
        let items: Vec<&I> = items.iter().collect();
        let left = Mutex::new(items.as_slice());
        // So few at once are not worth another connection.
        let least = most.min(8);
        let workers = self.jobs.min(items.len().div_ceil(least)).max(1);
        let take = || {
            let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
            let (chunk, rest) = left.split_at(most.min(left.len().div_ceil(workers).max(least)).min(left.len()));
            *left = rest;
            chunk
        };
        let worker = || -> Result<_, Error> {
            let (mut made, mut failed) = (Vec::new(), Vec::new());
            let mut conn = match (self.connect)() {
                Ok(conn) => conn,
                Err(error) => return Ok(((made, failed), Some(error))),
            };
            let mut worn = 0;
            loop {
                let chunk = take();
                if chunk.is_empty() {
                    return Ok(((made, failed), None));
                }
                if worn >= WORN {
                    // Where there is no new one, the old one will do.
                    conn = (self.connect)().unwrap_or(conn);
                    worn = 0;
                }
                worn += chunk.len();
                in_parts(&mut conn, chunk, &work, &mut made, &mut failed)?;
            }
        };
        let (all, hindrance) = thread::scope(|threads| {
            let others: Vec<_> = (1..workers).map(|_| threads.spawn(worker)).collect();
            let (mut all, mut hindrance) = worker()?;
            for other in others {
                let ((made, failed), error) = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                all.0.extend(made);
                all.1.extend(failed);
                hindrance = hindrance.or(error);
            }
            Ok::<_, Error>((all, hindrance))
        })?;
        let left = left.into_inner().unwrap_or_else(PoisonError::into_inner).to_vec();
        let hindrance = hindrance.filter(|_| !left.is_empty());
        Ok((all, (left, hindrance)))
    }
}

fn in_parts<'i, I, T>(
    conn: &mut PgConnection,
    items: &[&'i I],
    work: &impl Fn(&mut PgConnection, &[&'i I]) -> Result<Vec<T>, Error>,
    made: &mut Vec<T>,
    failed: &mut Vec<(&'i I, Error)>,
) -> Result<(), Error> {
    match work(conn, items) {
        Ok(more) => made.extend(more),
        Err(error) if pg::is_lost(conn) => return Err(error),
        Err(error) if items.len() == 1 => failed.push((items[0], error)),
        Err(_) => {
            let (one, other) = items.split_at(items.len() / 2);
            in_parts(conn, one, work, made, failed)?;
            in_parts(conn, other, work, made, failed)?;
        }
    }
    Ok(())
}
