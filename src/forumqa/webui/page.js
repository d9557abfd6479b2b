// The source panel, the two switches, and what Gradio's chat lacks for keyboards and screen readers.
(() => {
  const WORDS = JSON.parse(document.getElementById("fqa-words").textContent); // see labels.py
  // Gradio's own names of the chat's small buttons; it knows no Korean for some of them.
  const BUTTONS = [
    { en: "Copy message", ko: "복사" },
    { en: "Copied message", ko: "복사했습니다" },
    { en: "Retry", ko: "다시 시도" },
    { en: "Edit", ko: "편집" },
    { en: "Submit", ko: "제출" },
    { en: "Cancel", ko: "취소" },
  ];
  const label = (key) => (WORDS[document.documentElement.lang] || WORDS.en)[key];
  const $ = (selector, root = document) => root.querySelector(selector);
  const phone = matchMedia("(max-width: 860px)");
  let opener = null; // the link beside the panel that opened it: where "back" leads
  let shown = null; // the link whose source the panel shows; it may stand in the panel itself
  let stacked = false; // whether the browser's "back" leads out of the panel

  // Source panel ---------------------------------------------------------------------------------

  const LINK = 'a[href^="#s/"]';
  const parse = (link) => {
    const [, at, id] = link.getAttribute("href").match(/^#s\/(\d+-\d+)\/(.+)$/) || [];
    return at && { at, id: decodeURIComponent(id) };
  };

  // On a phone the panel lies over the chat, which then takes neither focus nor taps.
  function coverChat() {
    const chat = $("#fqa-chat");
    if (chat) chat.inert = phone.matches && document.body.classList.contains("fqa-reading");
  }

  async function openSource(link) {
    const wanted = parse(link);
    const panel = $("#fqa-source .fqa-panel");
    if (!wanted || !panel) return;
    // The other citations of this document in the same answer are marked as well.
    const message = link.closest(".message");
    const others = [...(message?.querySelectorAll("a.fqa-cite") || [])]
      .map(parse)
      .filter((other) => other && other.id === wanted.id)
      .map((other) => other.at);
    const query = new URLSearchParams({ id: wanted.id });
    for (const at of new Set([wanted.at, ...others])) query.append("at", at);
    shown = link;
    if (!panel.contains(link)) opener = link;
    for (const lit of document.querySelectorAll(`${LINK}[aria-current]`)) lit.removeAttribute("aria-current");
    link.setAttribute("aria-current", "true");
    try {
      const answer = await fetch(`source?${query}`);
      if (shown !== link) return; // a later click came in between
      panel.innerHTML = await answer.text(); // escaped by the server, see fragments.py
    } catch {
      panel.innerHTML = `<div class="fqa-source-bar"><button type="button" class="fqa-button" data-fqa="back">←</button></div><p class="fqa-removed" tabindex="-1" data-fqa="target">${label("unreachable")}</p>`;
    }
    panel.setAttribute("aria-label", label("source"));
    document.body.classList.add("fqa-reading");
    if (phone.matches && !stacked) {
      history.pushState(history.state, "");
      stacked = true;
    }
    coverChat();
    const target = $("[data-fqa=target]", panel) || panel;
    panel.scrollTop = 0;
    panel.scrollTop = target.getBoundingClientRect().top - panel.getBoundingClientRect().top - panel.clientHeight / 3;
    target.focus({ preventScroll: true });
  }

  function closeSource() {
    if (!document.body.classList.contains("fqa-reading")) return;
    document.body.classList.remove("fqa-reading");
    coverChat();
    if (stacked) {
      stacked = false;
      history.back();
    }
    shown = null;
    if (!opener) return;
    opener.removeAttribute("aria-current");
    // The chat may have drawn its messages anew since the panel was opened.
    const back = opener.isConnected ? opener : $(`a[href="${CSS.escape(opener.getAttribute("href"))}"]`);
    (back || $("#fqa-box textarea")).focus();
    opener = null;
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest(LINK);
    if (link) {
      event.preventDefault();
      openSource(link);
      return;
    }
    const button = event.target.closest("[data-fqa]");
    if (button?.dataset.fqa === "back") closeSource();
    if (button?.dataset.fqa === "theme") setTheme(document.body.classList.contains("dark") ? "light" : "dark");
    if (event.target.closest("#fqa-new, #fqa-bot .example")) closeSource();
    if (event.target.closest("#fqa-box button, #fqa-new, #fqa-bot .example")) $("#fqa-box textarea").focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !event.isComposing) closeSource();
  });
  phone.addEventListener("change", coverChat);
  window.addEventListener("popstate", () => {
    if (!stacked) return;
    stacked = false;
    closeSource();
  });

  // Material -------------------------------------------------------------------------------------

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-fqa=remove]");
    if (button && confirm(button.dataset.sure)) {
      button.dispatchEvent(new CustomEvent("fqa-remove", { bubbles: true, detail: button.dataset.id }));
    }
  });

  // Files dropped on the section go the way of chosen ones.
  const dropping = (event) => event.dataTransfer?.types.includes("Files") && event.target.closest?.("#fqa-material");
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      const section = dropping(event);
      const input = $("#fqa-add input[type=file]");
      if (!section || !input) return;
      event.preventDefault();
      section.classList.toggle("fqa-dropping", kind === "dragenter" || kind === "dragover");
      if (kind !== "drop") return;
      input.files = event.dataTransfer.files;
      input.dispatchEvent(new Event("change", { bubbles: true }));
    });
  }

  // Switches -------------------------------------------------------------------------------------

  // In the capture phase, so that the cookie is set before Gradio asks the server for the labels.
  document.addEventListener(
    "click",
    (event) => {
      const value = event.target.closest("[data-fqa=language]")?.dataset.value;
      if (!value) return;
      document.cookie = `forumqa_lang=${value}; path=/; max-age=31536000; samesite=lax`;
      document.documentElement.lang = value;
      if (shown) openSource(shown);
    },
    true,
  );

  function setTheme(name) {
    localStorage.setItem("forumqa_theme", name);
    tidy();
  }

  // What Gradio leaves out -------------------------------------------------------------------------

  function tidy() {
    const theme = localStorage.getItem("forumqa_theme");
    if (theme) document.body.classList.toggle("dark", theme === "dark");
    const name = (selector, text) => {
      const element = $(selector);
      if (element && element.getAttribute("aria-label") !== text) element.setAttribute("aria-label", text);
    };
    name("#fqa-bot [role=log]", label("chat"));
    name("#fqa-box textarea", label("question")); // its label holds the button's name as well
    name("#fqa-box .submit-button", label("send"));
    name("#fqa-box .stop-button", label("stop"));
    const accept = $("#fqa-upload-more [data-accept]")?.dataset.accept;
    for (const input of document.querySelectorAll("#fqa-add input[type=file]")) {
      if (accept && input.accept !== accept) input.accept = accept;
    }
    // Gradio names a message by its source text, which would be read instead of the message.
    for (const message of document.querySelectorAll("#fqa-bot [data-testid][aria-label]")) message.removeAttribute("aria-label");
    for (const button of document.querySelectorAll("#fqa-bot .icon-button[aria-label]")) {
      const now = button.getAttribute("aria-label");
      const wanted = BUTTONS.find((names) => names.en === now || names.ko === now)?.[document.documentElement.lang];
      if (wanted && wanted !== now) {
        button.setAttribute("aria-label", wanted);
        button.title = wanted;
      }
    }
    for (const chip of document.querySelectorAll("#fqa-bot .example[aria-label]")) chip.removeAttribute("aria-label");
  }
  let asked = false;
  const soon = () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => ((asked = false), tidy()));
  };
  document.addEventListener("DOMContentLoaded", () => {
    tidy();
    new MutationObserver(soon).observe(document.body, { subtree: true, childList: true, attributes: true, attributeFilter: ["aria-label", "class"] });
  });

  // The chat's copy button hands over the fragment; a reader wants the words.
  const write = navigator.clipboard?.writeText.bind(navigator.clipboard);
  if (write) {
    navigator.clipboard.writeText = (text) => {
      if (!text.startsWith('<div class="fqa-answer')) return write(text);
      const parsed = new DOMParser().parseFromString(text.replace(/<\/p>|<\/li>/g, "\n$&"), "text/html");
      return write(parsed.body.textContent.replace(/\u00a0/g, " ").trim());
    };
  }
})();
