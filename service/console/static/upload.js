// The upload page: the file goes in the body of each request and the choices in its address; a file can be dropped; and
// what was ticked holds only as long as nothing changes.
(() => {
  "use strict";
  const MAX_BYTES = 100 * 2 ** 20;
  const form = document.querySelector("#upload");
  if (!form) return;
  const input = form.querySelector("#f-file"), zone = form.querySelector(".drop"), sending = form.querySelector("#sending");
  const words = form.querySelector("#sending-words"), bar = form.querySelector("#sent"), result = form.querySelector("#result");

  const split = (data) => {
    const query = new URLSearchParams();
    for (const [name, value] of [...data.entries()]) {
      if (typeof value !== "string") continue;
      if (value.trim()) query.append(name, value.trim());
      data.delete(name);
    }
    return query;
  };
  const say = (text) => {
    const box = document.createElement("div");
    box.className = "notice bad";
    box.setAttribute("role", "alert");
    box.textContent = text;
    (form.querySelector("#sent-answer") || result).replaceChildren(box);
  };

  form.addEventListener("htmx:configRequest", (event) => {
    event.detail.path += `?${split(event.detail.formData)}`;
  });

  // A file that is sent shows how far it is; after that, the service reads it.
  form.addEventListener("htmx:beforeRequest", (event) => {
    words.textContent = "Sending the file";
    bar.removeAttribute("value");
    sending.hidden = false;
    sending.dataset.calls = event.detail.elt.id === "call" ? "true" : "";
  });
  form.addEventListener("htmx:xhr:progress", (event) => {
    if (!event.detail.lengthComputable || sending.hidden) return;
    const share = Math.floor((event.detail.loaded / event.detail.total) * 100);
    if (share < 100) bar.value = share;
    else bar.removeAttribute("value");
    words.textContent = share < 100 ? `Sending the file: ${share} %`
      : sending.dataset.calls ? "Storing the people and handing them to the provider" : "Checking the file";
  });
  form.addEventListener("htmx:afterRequest", () => { sending.hidden = true; });
  form.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.xhr.status >= 400) event.detail.shouldSwap = true;
    // Otherwise attributes of the old fields would be carried over to the new ones.
    if (event.detail.target === result) result.replaceChildren();
  });
  form.addEventListener("htmx:afterSwap", (event) => {
    if (event.target === result) result.focus();
  });
  form.addEventListener("htmx:sendError", () => say(sending.dataset.calls
    ? "The connection broke, so it is not known whether the upload arrived. Press the button again: it is never sent twice. Or look under “Earlier uploads”."
    : "The file could not be sent. If it was saved meanwhile, choose it again; otherwise check the connection."));

  // What was checked no longer holds.
  form.addEventListener("input", (event) => {
    if (event.target.name === "report_digest") return;
    const allowed = form.querySelector("#allowed"), stale = form.querySelector("#stale");
    if (allowed) {
      allowed.disabled = true;
      allowed.querySelector("input").checked = false;
    }
    if (stale) stale.hidden = false;
    form.querySelector("#recheck")?.classList.add("primary");
  });

  // The name follows the file until somebody types one.
  let suggested = "";
  input.addEventListener("change", () => {
    const file = input.files[0];
    input.setCustomValidity(file && file.size > MAX_BYTES ? "The file is over 100 MB: split it into several batches" : "");
    const name = form.querySelector("#f-name");
    if (file && (!name.value || name.value === suggested)) {
      name.value = suggested = file.name.replace(/\.[^.]*$/, "").slice(0, 190);
    }
  });
  for (const kind of ["dragenter", "dragover"]) zone.addEventListener(kind, (event) => {
    event.preventDefault();
    zone.classList.add("over");
  });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    if (!event.dataTransfer.files.length) return;
    input.files = event.dataTransfer.files;
    for (const kind of ["input", "change"]) input.dispatchEvent(new Event(kind, { bubbles: true }));
  });

  form.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-rows]");
    if (!button) return;
    button.disabled = true;
    try {
      const body = new FormData(form), query = split(body);
      const answer = await fetch(`/console/upload/${button.dataset.rows}?${query}`, {
        method: "POST", body, headers: { "X-CSRF-Token": form.dataset.token, "HX-Request": "true" },
      });
      if (!answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        say(page.body.textContent.trim());
        return;
      }
      const link = document.createElement("a");
      link.href = URL.createObjectURL(await answer.blob());
      link.download = button.dataset.rows;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    } catch {
      say("The rows could not be fetched: check the connection, and choose the file again if it was saved meanwhile.");
    } finally {
      button.disabled = false;
    }
  });
})();
