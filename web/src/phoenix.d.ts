// The package exports its serializer; the published types do not know it. Only the tests use it: the
// golden frames are read with the very code that reads them in a browser.

import 'phoenix';

declare module 'phoenix' {
  interface WireMessage {
    join_ref: unknown;
    ref: unknown;
    topic: string;
    event: string;
    payload: unknown;
  }

  const Serializer: {
    encode(message: WireMessage, callback: (frame: string | ArrayBuffer) => void): void;
    decode(frame: string | ArrayBuffer, callback: (message: WireMessage) => void): void;
  };
}
