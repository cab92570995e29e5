//! A network between the pool and the server that cuts connections in the middle of messages.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::Scope,
};

use rand::{RngExt, rngs::StdRng};

use super::{generator, tally::Tally};

/// How many of a connection's first messages always arrive: without them it would not be one.
const STARTUP: u32 = 4;

/// Listens until it is dropped.
pub struct Proxy {
    url: String,
    address: String,
    over: Arc<AtomicBool>,
}

impl Proxy {
    /// A way to the same database, with everything decided by the seed.
    pub fn start<'s>(threads: &'s Scope<'s, '_>, url: &str, seed: u64, tally: &'s Tally) -> Self {
        let (credentials, rest) = url.split_once('@').expect("a user");
        let (server, database) = rest.split_once('/').expect("a database");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let over = Arc::new(AtomicBool::new(false));
        let (server, ended) = (server.to_owned(), over.clone());
        threads.spawn(move || {
            for (number, client) in (1 << 61..).zip(listener.incoming().flatten()) {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(upstream) = TcpStream::connect(&server) else { continue };
                Link::new(&client, &upstream, generator(seed, number), tally).open(threads);
            }
        });
        Self { url: format!("{credentials}@{address}/{database}"), address, over }
    }

    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Wakes the listener.
        let _ = TcpStream::connect(&self.address);
    }
}

/// What becomes of a message to the server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Arrives,
    Lost,
    Half,
    /// It arrives, and its answer does not.
    Unanswered,
}

/// One connection.
struct Link<'s> {
    client: TcpStream,
    server: TcpStream,
    generator: StdRng,
    tally: &'s Tally,
}

impl<'s> Link<'s> {
    fn new(client: &TcpStream, server: &TcpStream, generator: StdRng, tally: &'s Tally) -> Self {
        for socket in [client, server] {
            socket.set_nodelay(true).expect("TCP");
        }
        let clone = |socket: &TcpStream| socket.try_clone().expect("TCP");
        Self { client: clone(client), server: clone(server), generator, tally }
    }

    fn open(self, threads: &'s Scope<'s, '_>) {
        let mute = Arc::new(AtomicBool::new(false));
        let clone = |socket: &TcpStream| socket.try_clone().expect("TCP");
        let (answers, client, muted) = (clone(&self.server), clone(&self.client), mute.clone());
        threads.spawn(move || {
            pump(&answers, &client, |bytes| if muted.load(Ordering::SeqCst) { 0 } else { bytes.len() });
        });
        threads.spawn(move || self.forward(&mute));
    }

    fn forward(mut self, mute: &AtomicBool) {
        let mut messages = 0;
        let (client, server) = (self.client.try_clone().expect("TCP"), self.server.try_clone().expect("TCP"));
        pump(&client, &server, |bytes| {
            messages += 1;
            if messages <= STARTUP {
                return bytes.len();
            }
            match self.fate(bytes) {
                Fate::Arrives => bytes.len(),
                Fate::Lost => 0,
                Fate::Half => bytes.len() / 2,
                Fate::Unanswered => {
                    mute.store(true, Ordering::SeqCst);
                    bytes.len()
                }
            }
        });
    }

    fn fate(&mut self, bytes: &[u8]) -> Fate {
        let commits = bytes.windows(6).any(|word| word == b"COMMIT");
        if !self.generator.random_ratio(1, if commits { 40 } else { 600 }) {
            return Fate::Arrives;
        }
        let (fate, what) = match self.generator.random_range(0..3) {
            0 => (Fate::Lost, "not forwarded"),
            1 => (Fate::Half, "half forwarded"),
            _ => (Fate::Unanswered, "answer dropped"),
        };
        self.tally.add(if commits { "COMMIT cut" } else { "message cut" }, what);
        fate
    }
}

/// Forwards as much of each piece as `admit` allows. Less than all ends the connection, in both directions.
fn pump(mut from: &TcpStream, mut to: &TcpStream, mut admit: impl FnMut(&[u8]) -> usize) {
    let mut buffer = vec![0; 1 << 14];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let admitted = admit(&buffer[..length]);
        if to.write_all(&buffer[..admitted]).is_err() || admitted < length {
            break;
        }
    }
    for socket in [from, to] {
        let _ = socket.shutdown(Shutdown::Both);
    }
}
