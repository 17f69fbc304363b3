// Browsers run no worker for a page that was opened from the disk. There, the script of the theme's search runs in a
// hidden frame instead. It has what that script uses of a worker, and no more.
if (location.protocol === "file:") {
  globalThis.Worker = class extends EventTarget {
    #frame = document.createElement("iframe");
    #loaded;

    constructor(url) {
      super();
      this.#frame.hidden = true;
      document.body.append(this.#frame);
      const { contentWindow, contentDocument } = this.#frame;
      // Firefox would replace the first document of the frame, and what is in it, when it has loaded.
      contentDocument.open();
      contentDocument.write("<!doctype html><body>");
      contentDocument.close();
      contentWindow.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      const script = contentDocument.createElement("script");
      script.src = url;
      this.#loaded = new Promise((resolve) => script.addEventListener("load", resolve));
      contentDocument.body.append(script);
    }

    async postMessage(data) {
      await this.#loaded;
      this.#frame.contentWindow.dispatchEvent(new MessageEvent("message", { data }));
    }

    terminate() {
      this.#frame.remove();
    }
  };
}
