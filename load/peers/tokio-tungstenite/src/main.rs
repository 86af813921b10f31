//! The peer tokio-tungstenite: `/echo` sends back, what comes on `/pub` goes to everyone on `/ws`.
//!
//! As its documentation advises: messages that are there are fed one by one and flushed once (`Sink::feed`), the read
//! buffer is small (its default of 128 KiB a connection is for few and busy ones), the payload is shared (`Utf8Bytes`),
//! Nagle's algorithm is off. Fan-out is a `tokio::sync::broadcast`, a task for each connection.

use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{accept_hdr_async_with_config, WebSocketStream};

type Socket = WebSocketStream<TcpStream>;

const READ_BUFFER_BYTES: usize = 4 * 1024;
const QUEUE_MESSAGES: usize = 4096;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).unwrap_or_else(|| "7070".to_owned());
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    let (channel, _) = broadcast::channel(QUEUE_MESSAGES);
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(serve(stream, channel.clone()));
    }
}

async fn serve(stream: TcpStream, channel: broadcast::Sender<Message>) {
    let mut path = String::new();
    #[allow(clippy::result_large_err)] // the callback's type is the library's
    let on_request = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        path = request.uri().path().to_owned();
        Ok(response)
    };
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let Ok(socket) = accept_hdr_async_with_config(stream, on_request, Some(config)).await else {
        return;
    };
    // How a connection ends is no matter here: its task ends.
    let _ = match path.as_str() {
        "/echo" => echo(socket).await,
        "/ws" => listen(socket, channel.subscribe()).await,
        "/pub" => publish(socket, channel).await,
        _ => Ok(()),
    };
}

async fn echo(mut socket: Socket) -> Result<(), Error> {
    while let Some(message) = socket.next().await {
        let mut next = Some(message);
        while let Some(message) = next {
            let message = message?;
            if !message.is_text() && !message.is_binary() {
                break;
            }
            socket.feed(message).await?;
            next = socket.next().now_or_never().flatten();
        }
        socket.flush().await?;
    }
    Ok(())
}

async fn listen(mut socket: Socket, mut queue: broadcast::Receiver<Message>) -> Result<(), Error> {
    loop {
        tokio::select! {
            message = queue.recv() => {
                // Whoever lags behind by the whole queue is cut off.
                let Ok(message) = message else { return Ok(()) };
                socket.feed(message).await?;
                while let Ok(message) = queue.try_recv() {
                    socket.feed(message).await?;
                }
                socket.flush().await?;
            }
            message = socket.next() => match message {
                Some(message) => drop(message?),
                None => return Ok(()),
            },
        }
    }
}

async fn publish(mut socket: Socket, channel: broadcast::Sender<Message>) -> Result<(), Error> {
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            let _ = channel.send(message); // an error: nobody listens
        }
    }
    Ok(())
}
