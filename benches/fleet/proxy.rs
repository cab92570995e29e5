//! A network that takes its time, on a machine that has none.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// What each message is held back, in each direction.
const DELAY: Duration = Duration::from_micros(500);

/// The same database behind a proxy: a URL for it.
pub fn delayed(url: &str) -> String {
    let (credentials, rest) = url.split_once('@').expect("a user");
    let (server, database) = rest.split_once('/').expect("a database");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let server = server.to_owned();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let upstream = TcpStream::connect(&server).expect("the server");
            for socket in [&client, &upstream] {
                socket.set_nodelay(true).expect("TCP");
            }
            pump(client.try_clone().expect("TCP"), upstream.try_clone().expect("TCP"));
            pump(upstream, client);
        }
    });
    format!("{credentials}@127.0.0.1:{port}/{database}")
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    let (send, receive) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if send.send((Instant::now() + DELAY, buffer[..length].to_vec())).is_err() {
                break;
            }
        }
    });
    thread::spawn(move || {
        for (due, bytes) in receive {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
